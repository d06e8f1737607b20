// SPDX-License-Identifier: Apache-2.0
//
// The threads of a run. Each worker owns a completion queue and a share of the channels: a channel's requests
// stay on one queue, so that a connection has one reader. load_run.h is the interface for ordinary use.
#ifndef HEADLIGHT_CLIENT_LOAD_LOAD_WORKER_H_
#define HEADLIGHT_CLIENT_LOAD_LOAD_WORKER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "client/load/load_run.h"

namespace headlight::client {

// How long requests in flight may take once the window is over.
inline constexpr std::chrono::seconds kLoadGrace{10};

// What all threads of a run share.
struct LoadShared {
  const LoadPlan& plan;
  const std::atomic<bool>& stop;
  int num_workers = 1;
  LoadClock::time_point start;
  Window window;
  std::chrono::nanoseconds timeline_width{0};

  // For who watches.
  std::atomic<int64_t> sent{0};
  std::atomic<int64_t> replies{0};
  std::atomic<int64_t> refused{0};
  std::atomic<int64_t> tickets{0};  // of a closed loop with a count: measured requests that may still be sent
};

class LoadWorker {
 public:
  virtual ~LoadWorker() = default;

  // Blocks until the worker's share of the run is over. Once.
  virtual void Run() = 0;

  // After Run: what was counted, with the time of the last end of a measured request (the epoch if none).
  virtual LoadResult TakeResult() = 0;
  virtual LoadClock::time_point last_end() const = 0;
};

// Worker `index` of `shared.num_workers`.
std::unique_ptr<LoadWorker> MakeClosedLoopWorker(LoadShared& shared, int index);
std::unique_ptr<LoadWorker> MakeOpenLoopWorker(LoadShared& shared, int index);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_LOAD_WORKER_H_
