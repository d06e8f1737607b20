// SPDX-License-Identifier: Apache-2.0
//
// Memory that only a burst needed goes back to the system when the burst is over.
#ifndef HEADLIGHT_SERVER_MEMORY_PERIODIC_TRIM_H_
#define HEADLIGHT_SERVER_MEMORY_PERIODIC_TRIM_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace headlight {

// Calls `trim` on a thread of its own, once each period, until it is destroyed. What `trim` says it has
// freed, in bytes, is given back to the system at once.
class PeriodicTrim {
 public:
  PeriodicTrim(std::chrono::steady_clock::duration period, std::function<int64_t()> trim);
  ~PeriodicTrim();
  PeriodicTrim(const PeriodicTrim&) = delete;
  PeriodicTrim& operator=(const PeriodicTrim&) = delete;

 private:
  void Run();

  const std::chrono::steady_clock::duration period_;
  const std::function<int64_t()> trim_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;     // last: it uses everything above
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MEMORY_PERIODIC_TRIM_H_
