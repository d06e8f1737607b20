// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cpu_list.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace headlight {
namespace {

constexpr int kEndOfCpus = 8192;  // the most that Linux can be built for

// "3" or "0-3".
bool AddRange(const std::string& range, std::set<int>& cpus) {
  const std::vector<std::string> ends = absl::StrSplit(range, '-');
  int first = 0;
  int last = 0;
  if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last)) {
    return false;
  }
  if (first < 0 || last < first || last >= kEndOfCpus) return false;
  for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
  return true;
}

}  // namespace

std::optional<std::vector<int>> ReadCpuList(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string line;
  if (!std::getline(stream, line)) return std::nullopt;
  std::set<int> cpus;
  if (line.empty()) return std::vector<int>();
  const std::vector<std::string> ranges = absl::StrSplit(line, ',');
  if (!std::all_of(ranges.begin(), ranges.end(), [&](const auto& range) { return AddRange(range, cpus); })) {
    return std::nullopt;
  }
  return std::vector<int>(cpus.begin(), cpus.end());
}

}  // namespace headlight
