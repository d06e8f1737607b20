// SPDX-License-Identifier: Apache-2.0
//
// Runs that are disturbed: paused again and again, or watched checkpoint by checkpoint.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_INTERRUPTED_RUN_H_
#define HEADLIGHT_TESTS_CORE_TESTING_INTERRUPTED_RUN_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "core/runtime/compute_arena.h"
#include "tests/core/testing/effort.h"

namespace headlight::testing {

// Calls run(), on this thread, while another one pauses and resumes the arena at random; again, if it was
// over before the other thread had paused it once. Returns how often it was paused.
inline int64_t RunPaused(ComputeArena& arena, Rng rng, const std::function<void()>& run) {
  std::atomic<bool> done{false};
  std::atomic<int64_t> pauses{0};
  std::thread pauser([&] {
    while (!done) {
      arena.Pause();
      for (int64_t i = UniformInt(rng, 0, 2); i > 0; --i) std::this_thread::yield();
      arena.Resume();
      ++pauses;
      // The run gets a few of its checkpoints done.
      std::atomic<int64_t> waits{0};
      for (int64_t i = UniformInt(rng, 0, 2000); i > 0; --i) ++waits;
    }
  });
  do {
    run();
  } while (pauses == 0);
  done = true;
  pauser.join();
  return pauses;
}

// Calls run() and `at`(number) at each of its checkpoints, counted from 0 and one at a time: no thread gets
// past one while another, put aside by the kernel, is still in `at`. Returns how many there were.
inline int64_t RunWatched(ComputeArena& arena, const std::function<void(int64_t checkpoint)>& at,
                          const std::function<void()>& run) {
  std::mutex mutex;
  int64_t checkpoints = 0;
  arena.WatchCheckpoints([&] {
    const std::lock_guard lock(mutex);
    at(checkpoints++);
  });
  run();
  arena.WatchCheckpoints(nullptr);
  return checkpoints;
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_INTERRUPTED_RUN_H_
