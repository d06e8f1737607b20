// SPDX-License-Identifier: Apache-2.0
//
// The time that tests of the schedule begin at, and their unit.
#ifndef HEADLIGHT_TESTS_SERVER_SCHEDULE_SCHEDULE_TIMES_H_
#define HEADLIGHT_TESTS_SERVER_SCHEDULE_SCHEDULE_TIMES_H_

#include <chrono>
#include <cstdint>

#include "server/schedule/clock.h"

namespace headlight::testing {

inline constexpr TimePoint kNow{std::chrono::hours(1)};
inline constexpr int64_t kNsPerMs = 1'000'000;

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_SCHEDULE_SCHEDULE_TIMES_H_
