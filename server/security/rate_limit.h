// SPDX-License-Identifier: Apache-2.0
//
// Bounds the predicted compute time that somebody may ask for in a second.
#ifndef HEADLIGHT_SERVER_SECURITY_RATE_LIMIT_H_
#define HEADLIGHT_SERVER_SECURITY_RATE_LIMIT_H_

#include <cstdint>
#include <mutex>
#include <optional>

#include "server/schedule/clock.h"

namespace headlight {

// A bucket that holds what one second brings. It may be overdrawn by one request, so that no request is too
// large for ever: the debt is paid off before the next one comes through. Thread-safe.
class RateLimit {
 public:
  // `seconds_per_second` is above 0.
  explicit RateLimit(double seconds_per_second) : rate_(seconds_per_second), balance_s_(seconds_per_second) {}

  // Takes `seconds` of compute time, or says in how many microseconds to come again (at least 1).
  std::optional<int64_t> Take(TimePoint now, double seconds);

  // What was taken and is not computed after all.
  void GiveBack(double seconds);

  double seconds_per_second() const { return rate_; }

 private:
  const double rate_;
  std::mutex mutex_;
  double balance_s_;      // guarded by mutex_, as is what follows
  TimePoint updated_at_;  // epoch until the first Take
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_RATE_LIMIT_H_
