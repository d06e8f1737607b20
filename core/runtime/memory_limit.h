// SPDX-License-Identifier: Apache-2.0
//
// How much memory this process may use.
#ifndef HEADLIGHT_CORE_RUNTIME_MEMORY_LIMIT_H_
#define HEADLIGHT_CORE_RUNTIME_MEMORY_LIMIT_H_

#include <cstdint>
#include <string>

namespace headlight {

// Bytes: the tightest memory limit of the process's cgroup and those above it (v1 or v2), or the machine's
// physical memory where that is less or there is no limit. `root` stands for "/" and lets tests put a tree of
// files in its place. Whatever cannot be read counts as no limit.
int64_t DetectMemoryLimitBytes(const std::string& root = "/");

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_MEMORY_LIMIT_H_
