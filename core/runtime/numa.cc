// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "core/runtime/cpu_list.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;

constexpr int kEndOfNodes = 1024;  // the most that Linux can be built for
constexpr int kWordBits = 8 * sizeof(unsigned long);

// The number of a folder "node3".
std::optional<int> NodeOf(const fs::path& folder) {
  const std::string name = folder.filename().string();
  absl::string_view digits = name;
  int node = 0;
  if (!absl::ConsumePrefix(&digits, "node") || !absl::SimpleAtoi(digits, &node)) return std::nullopt;
  if (node < 0 || node >= kEndOfNodes) return std::nullopt;
  return node;
}

// Both ascend.
bool Meet(const std::vector<int>& a, const std::vector<int>& b) {
  return std::any_of(a.begin(), a.end(),
                     [&](int cpu) { return std::binary_search(b.begin(), b.end(), cpu); });
}

}  // namespace

std::vector<int> NumaNodes(const std::vector<int>& cpus, const std::string& root) {
  std::vector<int> nodes;
  std::error_code error;
  fs::directory_iterator entry(fs::path(root) / "sys/devices/system/node", error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::optional<int> node = NodeOf(entry->path());
    if (!node) continue;
    const std::optional<std::vector<int>> of_node = ReadCpuList(entry->path() / "cpulist");
    if (of_node && Meet(cpus, *of_node)) nodes.push_back(*node);
  }
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

std::optional<PageRange> PagesToInterleave(const void* data, int64_t size_bytes,
                                           const std::vector<int>& nodes) {
  if (nodes.size() < 2 || size_bytes <= 0) return std::nullopt;
  const auto page_bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t begin = (first + page_bytes - 1) / page_bytes * page_bytes;
  const std::uintptr_t end = (first + static_cast<std::uintptr_t>(size_bytes)) / page_bytes * page_bytes;
  if (end <= begin) return std::nullopt;
  PageRange range{.begin = begin, .size_bytes = static_cast<int64_t>(end - begin)};
  range.node_mask.resize(nodes.back() / kWordBits + 1);
  for (const int node : nodes) range.node_mask[node / kWordBits] |= 1UL << (node % kWordBits);
  return range;
}

bool InterleaveMemory(void* data, int64_t size_bytes, const std::vector<int>& nodes) {
  const std::optional<PageRange> range = PagesToInterleave(data, size_bytes, nodes);
  if (!range) return false;
  // The kernel takes one bit less than it is told of.
  const unsigned long mask_bits = range->node_mask.size() * kWordBits + 1;
  return syscall(SYS_mbind, range->begin, static_cast<unsigned long>(range->size_bytes),
                 static_cast<unsigned long>(MPOL_INTERLEAVE), range->node_mask.data(), mask_bits,
                 static_cast<unsigned long>(MPOL_MF_MOVE)) == 0;
}

}  // namespace headlight
