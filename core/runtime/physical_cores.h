// SPDX-License-Identifier: Apache-2.0
//
// Which CPUs are one core's: with SMT (hyper-threading) Linux calls each of its threads a CPU, and they share
// the units that multiply.
#ifndef HEADLIGHT_CORE_RUNTIME_PHYSICAL_CORES_H_
#define HEADLIGHT_CORE_RUNTIME_PHYSICAL_CORES_H_

#include <string>
#include <vector>

#include "core/runtime/cpu_placement.h"

namespace headlight {

// `cpus`, which ascend, by the core that they belong to: cores and what they hold ascend too. `root` stands
// for "/" and lets tests put a tree of files in its place. A CPU of which the kernel does not say is a core
// of its own.
std::vector<std::vector<int>> PhysicalCores(const std::vector<int>& cpus = AllowedCpus(),
                                            const std::string& root = "/");

// For each of num_threads threads a CPU of its own, such that no two threads meet on a core while another
// core has none: all CPUs, or one of each core. Empty where the threads are as many as neither: then it takes
// the kernel, which knows what else runs.
std::vector<int> PlacesFor(int num_threads, const std::vector<std::vector<int>>& cores);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_PHYSICAL_CORES_H_
