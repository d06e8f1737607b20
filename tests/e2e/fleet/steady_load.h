// SPDX-License-Identifier: Apache-2.0
//
// Small requests at a steady rate, whatever becomes of them: users, who do not wait for each other.
#ifndef HEADLIGHT_TESTS_E2E_FLEET_STEADY_LOAD_H_
#define HEADLIGHT_TESTS_E2E_FLEET_STEADY_LOAD_H_

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "client/client.h"

namespace headlight::e2e {

using SteadyTime = std::chrono::steady_clock::time_point;

struct LoadedCall {
  SteadyTime due;  // when it was meant to be sent, from which its latency counts
  std::chrono::microseconds latency{0};
  absl::Status status;
};

// Thread-safe.
class SteadyLoad {
 public:
  // Sends from now on, by way of `client`, which must outlive this.
  SteadyLoad(const Client& client, int requests_per_s, std::chrono::milliseconds timeout);
  ~SteadyLoad() { Stop(); }
  SteadyLoad(const SteadyLoad&) = delete;
  SteadyLoad& operator=(const SteadyLoad&) = delete;

  // Sends no more and waits for what is under way.
  void Stop();

  // Of all calls that have ended.
  std::vector<LoadedCall> calls() const;

  // The 99th percentile of the calls that were due in [begin, end) and have ended.
  std::chrono::milliseconds P99(SteadyTime begin, SteadyTime end) const;

 private:
  void Send();
  void Note(LoadedCall call);

  const Client& client_;
  const std::chrono::nanoseconds interval_;
  const std::chrono::milliseconds timeout_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> under_way_{0};
  mutable std::mutex mutex_;
  std::vector<LoadedCall> calls_;  // guarded by mutex_
  std::thread sender_;             // last, as it uses the others
};

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_FLEET_STEADY_LOAD_H_
