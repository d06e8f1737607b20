// SPDX-License-Identifier: Apache-2.0
//
// Memory of machines whose CPUs are nearer to one part of it than to another.
#ifndef HEADLIGHT_CORE_RUNTIME_NUMA_H_
#define HEADLIGHT_CORE_RUNTIME_NUMA_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/runtime/cpu_placement.h"

namespace headlight {

// The nodes that have some of `cpus`, ascending. `root` stands for "/" and lets tests put a tree of files in
// its place. Empty where they cannot be read.
std::vector<int> NumaNodes(const std::vector<int>& cpus = AllowedCpus(), const std::string& root = "/");

// What mbind(2) is asked for: whole pages, and a bit for each node.
struct PageRange {
  std::uintptr_t begin = 0;
  int64_t size_bytes = 0;
  std::vector<unsigned long> node_mask;
};

// The whole pages within [data, data + size_bytes), for `nodes`. Nothing where there is nothing to bind: no
// whole page, or fewer than two nodes.
std::optional<PageRange> PagesToInterleave(const void* data, int64_t size_bytes,
                                           const std::vector<int>& nodes);

// Spreads the pages of a block over `nodes` in turn, for what threads on all of them read: else it lies on
// the node of whoever writes it first, and the others read it through one link. Best before the block is
// touched; pages that were touched move. Costs only speed where the kernel does not let it (containers
// without CAP_SYS_NICE). False: nothing was bound.
bool InterleaveMemory(void* data, int64_t size_bytes, const std::vector<int>& nodes);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_NUMA_H_
