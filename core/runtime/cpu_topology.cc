// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cpu_topology.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/runtime/cpu_placement.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;

using Quota = std::optional<double>;  // CPUs' worth of time; none means unlimited

Quota Tightest(Quota a, Quota b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

// The first `count` words of a file, or fewer.
std::vector<std::string> ReadWords(const fs::path& file, size_t count) {
  std::ifstream stream(file);
  std::vector<std::string> words;
  for (std::string word; words.size() < count && stream >> word;) words.push_back(word);
  return words;
}

// quota_us microseconds of CPU time per period_us. "max" (v2), -1 (v1) and what is no number mean no limit.
Quota ParseQuota(const std::string& quota_us, const std::string& period_us) {
  int64_t quota = 0;
  int64_t period = 0;
  if (!absl::SimpleAtoi(quota_us, &quota) || !absl::SimpleAtoi(period_us, &period)) return std::nullopt;
  if (quota <= 0 || period <= 0) return std::nullopt;
  return static_cast<double>(quota) / static_cast<double>(period);
}

Quota ReadQuotaV2(const fs::path& group) {
  const std::vector<std::string> words = ReadWords(group / "cpu.max", 2);
  return words.size() == 2 ? ParseQuota(words[0], words[1]) : std::nullopt;
}

Quota ReadQuotaV1(const fs::path& group) {
  const std::vector<std::string> quota = ReadWords(group / "cpu.cfs_quota_us", 1);
  const std::vector<std::string> period = ReadWords(group / "cpu.cfs_period_us", 1);
  return quota.size() == 1 && period.size() == 1 ? ParseQuota(quota[0], period[0]) : std::nullopt;
}

// The tightest quota of a group and all groups above it, up to the mount point. Inside a container the group
// named by /proc/self/cgroup is often not there, since the mount shows the container's own group as its root;
// the walk up then finds files only there, which is what is wanted.
Quota TightestUpwards(const fs::path& mount, const std::string& group, Quota (*read)(const fs::path&)) {
  fs::path relative = fs::path(group).relative_path().lexically_normal();
  if (!relative.empty() && *relative.begin() == "..") relative.clear();  // outside the namespace that we see
  Quota tightest = read(mount);
  for (fs::path path = mount; const fs::path& part : relative) {
    path /= part;
    tightest = Tightest(tightest, read(path));
  }
  return tightest;
}

// Each line of /proc/self/cgroup is "hierarchy:controllers:group"; v2 has hierarchy 0 and no controllers.
Quota DetectQuota(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  Quota quota;
  std::ifstream lines(root / "proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    if (fields[1].empty()) {
      quota = Tightest(quota, TightestUpwards(mounts, fields[2], ReadQuotaV2));
      continue;
    }
    const std::vector<std::string> controllers = absl::StrSplit(fields[1], ',');
    if (std::find(controllers.begin(), controllers.end(), "cpu") == controllers.end()) continue;
    // The mount is named after one controller or all of them; usually one name is a link to the other.
    quota = Tightest(quota, TightestUpwards(mounts / "cpu", fields[2], ReadQuotaV1));
    quota = Tightest(quota, TightestUpwards(mounts / fields[1], fields[2], ReadQuotaV1));
  }
  return quota;
}

}  // namespace

int CpuTopology::ComputeThreads() const {
  const double limit = std::min(static_cast<double>(affinity_cpus), quota_cpus.value_or(affinity_cpus));
  return std::max(static_cast<int>(limit), 1);
}

CpuTopology DetectCpuTopology(const std::string& root) {
  return {.affinity_cpus = static_cast<int>(AllowedCpus().size()), .quota_cpus = DetectQuota(root)};
}

}  // namespace headlight
