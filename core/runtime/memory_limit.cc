// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;

// What the file says; INT64_MAX for "max" (v2), for the huge number that means no limit in v1 and does not
// fit, and where there is no file.
int64_t ReadLimit(const fs::path& file) {
  std::ifstream stream(file);
  std::string word;
  int64_t bytes = 0;
  return stream >> word && absl::SimpleAtoi(word, &bytes) && bytes > 0 ? bytes : INT64_MAX;
}

// Inside a container the group that /proc/self/cgroup names is often not there: then only the root is.
int64_t TightestUpwards(const fs::path& mount, const std::string& group, const char* name) {
  fs::path relative = fs::path(group).relative_path().lexically_normal();
  if (!relative.empty() && *relative.begin() == "..") relative.clear();  // outside the namespace that we see
  int64_t tightest = ReadLimit(mount / name);
  for (fs::path path = mount; const fs::path& part : relative) {
    path /= part;
    tightest = std::min(tightest, ReadLimit(path / name));
  }
  return tightest;
}

}  // namespace

int64_t DetectMemoryLimitBytes(const std::string& root) {
  int64_t tightest = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  const fs::path mounts = fs::path(root) / "sys/fs/cgroup";
  std::ifstream lines(fs::path(root) / "proc/self/cgroup");
  // Each line is "hierarchy:controllers:group"; v2 has no controllers.
  for (std::string line; std::getline(lines, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    if (fields[1].empty()) {
      tightest = std::min(tightest, TightestUpwards(mounts, fields[2], "memory.max"));
      continue;
    }
    const std::vector<std::string> controllers = absl::StrSplit(fields[1], ',');
    if (std::find(controllers.begin(), controllers.end(), "memory") == controllers.end()) continue;
    tightest = std::min(tightest, TightestUpwards(mounts / "memory", fields[2], "memory.limit_in_bytes"));
  }
  return tightest;
}

}  // namespace headlight
