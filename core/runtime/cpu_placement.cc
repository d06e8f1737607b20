// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cpu_placement.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>

namespace headlight {
namespace {

// A set of CPUs, without memory of its own: threads are placed while they compute, which does not allocate.
class CpuMask {
 public:
  // That of the calling thread; empty where it cannot be read.
  static CpuMask OfThisThread() {
    CpuMask mask;
    if (sched_getaffinity(0, sizeof(mask.words_), mask.words_) != 0) return CpuMask();
    return mask;
  }

  static constexpr int kCapacity = 8192;  // the most that Linux can be built for

  bool Has(int cpu) const { return CPU_ISSET_S(cpu, sizeof(words_), words_); }
  void Add(int cpu) { CPU_SET_S(cpu, sizeof(words_), words_); }
  bool GiveToThisThread() const { return sched_setaffinity(0, sizeof(words_), words_) == 0; }

 private:
  cpu_set_t words_[kCapacity / CPU_SETSIZE] = {};
};

constexpr int kNotPinned = -1;
thread_local int pinned_cpu = kNotPinned;
thread_local CpuMask mask_before_pinning;

}  // namespace

std::vector<int> AllowedCpus() {
  const CpuMask mask = CpuMask::OfThisThread();
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CpuMask::kCapacity; ++cpu) {
    if (mask.Has(cpu)) cpus.push_back(cpu);
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

void PinThisThread(int cpu) {
  if (pinned_cpu == cpu) return;
  if (pinned_cpu == kNotPinned) mask_before_pinning = CpuMask::OfThisThread();
  CpuMask one;
  one.Add(cpu);
  if (one.GiveToThisThread()) pinned_cpu = cpu;
}

void ReleaseThisThread() {
  if (pinned_cpu == kNotPinned) return;
  mask_before_pinning.GiveToThisThread();
  pinned_cpu = kNotPinned;
}

void StepBack(int nice) {
  thread_local bool done = false;
  if (nice <= 0 || std::exchange(done, true)) return;
  // Before any thread has stepped back: the others may have that of whoever started them.
  static const int of_process = getpriority(PRIO_PROCESS, static_cast<id_t>(getpid()));
  // Of thread 0, which is the caller.
  if (getpriority(PRIO_PROCESS, 0) < of_process + nice) setpriority(PRIO_PROCESS, 0, of_process + nice);
}

}  // namespace headlight
