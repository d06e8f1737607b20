// SPDX-License-Identifier: Apache-2.0
//
// On which CPUs threads run.
#ifndef HEADLIGHT_CORE_RUNTIME_CPU_PLACEMENT_H_
#define HEADLIGHT_CORE_RUNTIME_CPU_PLACEMENT_H_

#include <vector>

namespace headlight {

// The CPUs that the calling thread may run on, in ascending order. At least one: CPU 0 where they cannot be
// read.
std::vector<int> AllowedCpus();

// Confines the calling thread to one CPU, as far as the kernel lets it; how it was placed before is
// remembered for ReleaseThisThread. Does nothing where the thread is confined to this CPU already.
void PinThisThread(int cpu);

// Puts the calling thread back to how it was before the first PinThisThread since. Does nothing otherwise.
void ReleaseThisThread();

// Makes the calling thread nicer than the process by this much, for good (nice(2); Linux has one for each
// thread): when both want a CPU, others of the process go first. Does nothing for 0, for a thread that has
// stepped back before, or for one that is as nice already, since whoever started it is.
void StepBack(int nice);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_CPU_PLACEMENT_H_
