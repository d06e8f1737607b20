// SPDX-License-Identifier: Apache-2.0
//
// Where the scheduler reads the time, so that tests can turn the hands themselves.
#ifndef HEADLIGHT_SERVER_SCHEDULE_CLOCK_H_
#define HEADLIGHT_SERVER_SCHEDULE_CLOCK_H_

#include <chrono>
#include <cstdint>

namespace headlight {

using TimePoint = std::chrono::steady_clock::time_point;

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
};

inline int64_t MicrosecondsBetween(TimePoint begin, TimePoint end) {
  return std::chrono::duration_cast<std::chrono::microseconds>(end - begin).count();
}

// `us` microseconds after `now`, us >= 0; TimePoint::max() if that is beyond what can be told.
inline TimePoint After(TimePoint now, int64_t us) {
  return us >= MicrosecondsBetween(now, TimePoint::max()) ? TimePoint::max()
                                                          : now + std::chrono::microseconds(us);
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_CLOCK_H_
