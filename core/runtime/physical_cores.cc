// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/physical_cores.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/runtime/cpu_list.h"

namespace headlight {
namespace {

// The first of the CPUs that share a core with this one, itself included, be it allowed or not. Unlike
// core_id this names a core of the whole machine.
int FirstSibling(int cpu, const std::filesystem::path& root) {
  const std::optional<std::vector<int>> siblings =
      ReadCpuList(root / absl::StrCat("sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list"));
  if (!siblings || !std::binary_search(siblings->begin(), siblings->end(), cpu)) return cpu;
  return siblings->front();
}

}  // namespace

std::vector<std::vector<int>> PhysicalCores(const std::vector<int>& cpus, const std::string& root) {
  std::map<int, std::vector<int>> by_first_sibling;
  for (const int cpu : cpus) by_first_sibling[FirstSibling(cpu, root)].push_back(cpu);
  std::vector<std::vector<int>> cores;
  for (auto& [first, core] : by_first_sibling) cores.push_back(std::move(core));
  return cores;
}

std::vector<int> PlacesFor(int num_threads, const std::vector<std::vector<int>>& cores) {
  std::vector<int> first_of_each;
  std::vector<int> all;
  for (const std::vector<int>& core : cores) {
    first_of_each.push_back(core.front());
    all.insert(all.end(), core.begin(), core.end());
  }
  if (num_threads == std::ssize(first_of_each)) return first_of_each;
  if (num_threads == std::ssize(all)) return all;
  return {};
}

}  // namespace headlight
