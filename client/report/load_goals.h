// SPDX-License-Identifier: Apache-2.0
//
// What a load test may be told to aim at: a percentile of the latency and the limit that it has to keep.
#ifndef HEADLIGHT_CLIENT_REPORT_LOAD_GOALS_H_
#define HEADLIGHT_CLIENT_REPORT_LOAD_GOALS_H_

#include <array>
#include <optional>

#include "client/load/load_result.h"

namespace headlight::client {

// The percentiles that reports show and goals may name.
struct NamedPercentile {
  const char* name;
  double percent;
};
inline constexpr std::array<NamedPercentile, 6> kLoadPercentiles = {
    {{"p50", 50}, {"p90", 90}, {"p95", 95}, {"p99", 99}, {"p99_9", 99.9}, {"p99_99", 99.99}}};

// The value that --search holds a run against.
struct SearchGoal {
  NamedPercentile percentile = {"p99", 99};
  double limit_ms = 0;
};

// The latency since the intended time that this share of all requests kept; nothing if so many of them
// failed or were not sent that the percentile is one of those. Requests that we cancelled do not count.
std::optional<double> GoalValueMs(const SearchGoal& goal, const LoadResult& result);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_REPORT_LOAD_GOALS_H_
