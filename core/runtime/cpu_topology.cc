// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cpu_topology.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "core/runtime/cgroup.h"
#include "core/runtime/physical_cores.h"

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

Quota DetectQuota(const std::string& root) {
  Quota quota;
  VisitCgroups(root, "cpu", [&](const fs::path& folder, CgroupVersion version) {
    quota = Tightest(quota, version == CgroupVersion::kV2 ? ReadQuotaV2(folder) : ReadQuotaV1(folder));
  });
  return quota;
}

}  // namespace

int CpuTopology::ComputeThreads() const {
  const double limit = std::min(static_cast<double>(physical_cores), quota_cpus.value_or(physical_cores));
  return std::max(static_cast<int>(limit), 1);
}

CpuTopology DetectCpuTopology(const std::string& root, const std::vector<int>& cpus) {
  return {.affinity_cpus = static_cast<int>(cpus.size()),
          .physical_cores = static_cast<int>(PhysicalCores(cpus, root).size()),
          .quota_cpus = DetectQuota(root)};
}

}  // namespace headlight
