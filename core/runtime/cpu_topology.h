// SPDX-License-Identifier: Apache-2.0
//
// What this process may use of the machine: the cores its affinity allows and the CPU time its cgroup grants.
#ifndef HEADLIGHT_CORE_RUNTIME_CPU_TOPOLOGY_H_
#define HEADLIGHT_CORE_RUNTIME_CPU_TOPOLOGY_H_

#include <optional>
#include <string>

namespace headlight {

struct CpuTopology {
  int affinity_cpus = 1;  // CPUs in the process's affinity mask
  std::optional<double>
      quota_cpus;  // CPUs' worth of time per period from cgroup v1 or v2; absent means unlimited

  // Threads that can run at once without being throttled: min(affinity_cpus, quota_cpus rounded down), at
  // least 1.
  int ComputeThreads() const;
};

// Reads the affinity mask and the tightest cgroup limit from the process's own group up to the root. `root`
// stands for
// "/" and lets tests put a tree of files in its place. Whatever cannot be read counts as no limit.
CpuTopology DetectCpuTopology(const std::string& root = "/");

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_CPU_TOPOLOGY_H_
