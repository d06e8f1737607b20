// SPDX-License-Identifier: Apache-2.0
//
// What this process may use of the machine: the cores its affinity allows and the CPU time its cgroup grants.
#ifndef HEADLIGHT_CORE_RUNTIME_CPU_TOPOLOGY_H_
#define HEADLIGHT_CORE_RUNTIME_CPU_TOPOLOGY_H_

#include <optional>
#include <string>
#include <vector>

#include "core/runtime/cpu_placement.h"

namespace headlight {

struct CpuTopology {
  int affinity_cpus = 1;   // CPUs in the process's affinity mask
  int physical_cores = 1;  // that those CPUs belong to; fewer than they are where there is SMT
  // CPUs' worth of time per period from cgroup v1 or v2; absent means unlimited.
  std::optional<double> quota_cpus;

  // Threads that can multiply at once without being throttled: min(physical_cores, quota_cpus rounded down),
  // at least 1. Two threads of one core share its units for that, and its cache; they gain next to nothing.
  int ComputeThreads() const;
};

// Finds the cores of the CPUs that this thread may run on, and the tightest cgroup limit from the process's
// own group up to the root. `root` stands for "/" and lets tests put a tree of files in its place. Whatever
// cannot be read counts as no limit and no SMT.
CpuTopology DetectCpuTopology(const std::string& root = "/", const std::vector<int>& cpus = AllowedCpus());

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_CPU_TOPOLOGY_H_
