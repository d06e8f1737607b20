// SPDX-License-Identifier: Apache-2.0
//
// So many lines of a kind may be logged in a second; what is beyond is counted.
#ifndef HEADLIGHT_SERVER_OBSERVE_LOG_BUDGET_H_
#define HEADLIGHT_SERVER_OBSERVE_LOG_BUDGET_H_

#include <chrono>
#include <cstdint>
#include <mutex>
#include <utility>

namespace headlight {

// Thread-safe.
class LogBudget {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit LogBudget(int64_t lines_per_s) : lines_per_s_(lines_per_s) {}

  // Whether a line may be written. If not, it is left out.
  bool Take(TimePoint now) {
    const std::lock_guard lock(mutex_);
    if (now - second_ >= std::chrono::seconds(1)) {
      second_ = now;
      taken_ = 0;
    }
    if (taken_ < lines_per_s_) {
      ++taken_;
      return true;
    }
    ++left_out_;
    return false;
  }

  // Lines that were left out since the last call.
  int64_t TakeLeftOut() {
    const std::lock_guard lock(mutex_);
    return std::exchange(left_out_, 0);
  }

 private:
  const int64_t lines_per_s_;
  std::mutex mutex_;
  TimePoint second_;      // guarded by mutex_, as is all below: when the running second began
  int64_t taken_ = 0;     // in it
  int64_t left_out_ = 0;  // since they were told
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_LOG_BUDGET_H_
