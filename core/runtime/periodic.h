// SPDX-License-Identifier: Apache-2.0
//
// Work that is due again and again.
#ifndef HEADLIGHT_CORE_RUNTIME_PERIODIC_H_
#define HEADLIGHT_CORE_RUNTIME_PERIODIC_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace headlight {

// Calls `work` on a thread of its own, once each period, until it is destroyed, which waits for a call under
// way and not for the next.
class Periodic {
 public:
  Periodic(std::chrono::steady_clock::duration period, std::function<void()> work);
  ~Periodic();
  Periodic(const Periodic&) = delete;
  Periodic& operator=(const Periodic&) = delete;

 private:
  void Run();

  const std::chrono::steady_clock::duration period_;
  const std::function<void()> work_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;     // last: it uses everything above
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_PERIODIC_H_
