// SPDX-License-Identifier: Apache-2.0
//
// The threads that compute; gRPC threads never do. Long work can be paused in one arena while another
// computes.
#ifndef HEADLIGHT_CORE_RUNTIME_COMPUTE_ARENA_H_
#define HEADLIGHT_CORE_RUNTIME_COMPUTE_ARENA_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/functional/function_ref.h"
#include "core/runtime/pause_gate.h"

namespace headlight {

// A oneTBB arena of a fixed number of threads. While a body runs, oneDNN's OpenMP runs on its thread alone
// (its parallelism is ours) and denormals are flushed to zero; both are put back afterwards. Thread-safe;
// several callers of ForEach share the threads, and those beyond num_threads wait for a place. An arena of
// one thread keeps none: each caller computes on itself. Bodies use no arena but their own. May be destroyed
// while it is paused, if no ForEach is in progress.
//
// Where it has as many threads as the process has physical cores, each thread has a core of its own for as
// long as it is in the arena, the caller included; so it is with CPUs, where SMT makes them more than cores.
// The kernel would now and then put two of them on one and leave another idle. With other numbers of threads
// the kernel places them, since it alone knows which CPUs are free: containers with a quota share theirs.
// Arenas of one size place alike; of those that do, one should compute at a time.
class ComputeArena {
 public:
  // num_threads >= 1; the caller of ForEach counts as one of them. With `nice` each worker and each caller of
  // Within is nicer by that much for the rest of its life, so that a process's other threads need not wait
  // for these to answer somebody.
  explicit ComputeArena(int num_threads, int nice = 0);
  ~ComputeArena();
  ComputeArena(const ComputeArena&) = delete;
  ComputeArena& operator=(const ComputeArena&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(item, worker) once for every item in [0, num_items), in parallel, and waits for all of them.
  // `worker` is in [0, num_threads()) and no two concurrent calls from the same ForEach share it.
  // May be called from within a body of an outer ForEach: the waiting thread then takes only items of the
  // inner one, so whatever belongs to its outer item is safe. The inner body sees the same worker numbers. An
  // exception thrown by a body leaves ForEach after the other bodies have ended.
  void ForEach(int64_t num_items, absl::FunctionRef<void(int64_t item, int worker)> body);

  // Calls work(), which calls ForEach several times, and waits for it. Meanwhile its thread belongs to the
  // arena, so that the loops need not enter and leave it; if all places are taken, a thread of the arena does
  // the work. What it throws leaves Within. Nothing in it counts as a body but the bodies.
  void Within(absl::FunctionRef<void()> work);

  // As Pause, without waiting for anything: the threads will stand still soon. From any thread; cheap.
  void BeginPause() { gate_.Close(); }

  // From now on no body begins, and each that runs parks at its next Checkpoint. Returns when none runs any
  // more: all have ended, are parked, or wait for the bodies of an inner ForEach. What they wrote is visible
  // to the caller. From any thread but those that are in a body. Pausing a paused arena only waits. Returns
  // early if another thread calls Resume meanwhile.
  void Pause();

  // Parked bodies go on where they are, on the same threads. Does nothing unless paused.
  void Resume();

  // To be called by bodies, about every 100 us of their work: parks while the arena is paused. One relaxed
  // load while it is not.
  void Checkpoint() {
    if (!gate_.quiet()) [[unlikely]]
      Park();
  }

  // For tests: `watcher` is called at every Checkpoint, on its thread, before it parks. Null ends that. Not
  // to be called while a ForEach is in progress.
  void WatchCheckpoints(std::function<void()> watcher);

  // Says that work is about to come: the threads wake up, and stay awake for some 50 us unless it does. Never
  // waits for them; costs next to nothing where they are awake. From any thread.
  void Wake();

 private:
  class Impl;
  void Park();

  const int num_threads_;
  const int nice_;
  PauseGate gate_;
  std::function<void()> watcher_;
  std::unique_ptr<Impl> impl_;  // null with one thread
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_COMPUTE_ARENA_H_
