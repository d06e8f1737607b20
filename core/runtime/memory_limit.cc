// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/numbers.h"
#include "core/runtime/cgroup.h"

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

}  // namespace

int64_t DetectMemoryLimitBytes(const std::string& root) {
  int64_t tightest = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  VisitCgroups(root, "memory", [&](const fs::path& folder, CgroupVersion version) {
    const char* const name = version == CgroupVersion::kV2 ? "memory.max" : "memory.limit_in_bytes";
    tightest = std::min(tightest, ReadLimit(folder / name));
  });
  return tightest;
}

}  // namespace headlight
