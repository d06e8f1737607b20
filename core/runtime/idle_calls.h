// SPDX-License-Identifier: Apache-2.0
//
// What threads that compute let go of when there is nothing to compute.
#ifndef HEADLIGHT_CORE_RUNTIME_IDLE_CALLS_H_
#define HEADLIGHT_CORE_RUNTIME_IDLE_CALLS_H_

namespace headlight {

// From now on every thread of every ComputeArena calls `call` when it goes idle: when it leaves an arena, as
// workers do that sleep and callers that are done, and when it parks in one. For what a thread keeps of the
// CPU from one piece of work to the next. `call` must be quick and must not throw; it finds out itself
// whether there is anything to do. For the life of the process; twice the same is as once. From any thread.
void CallWhenIdle(void (*call)());

// To be called by a thread that goes idle.
void GoIdle();

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_IDLE_CALLS_H_
