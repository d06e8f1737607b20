// SPDX-License-Identifier: Apache-2.0
//
// A clock that stands still until the test moves it.
#ifndef HEADLIGHT_TESTS_TESTING_FAKE_CLOCK_H_
#define HEADLIGHT_TESTS_TESTING_FAKE_CLOCK_H_

#include <atomic>
#include <chrono>

#include "server/schedule/clock.h"

namespace headlight::testing {

// Thread-safe.
class FakeClock final : public Clock {
 public:
  TimePoint Now() const override { return TimePoint(now_.load()); }
  void Advance(std::chrono::nanoseconds step) { now_.store(now_.load() + step); }

 private:
  std::atomic<TimePoint::duration> now_{std::chrono::hours(1)};
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_TESTING_FAKE_CLOCK_H_
