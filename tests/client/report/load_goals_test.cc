// SPDX-License-Identifier: Apache-2.0
#include "client/report/load_goals.h"

#include <gtest/gtest.h>

#include <chrono>

namespace headlight::client {
namespace {

using namespace std::chrono_literals;

TEST(GoalValueTest, FailuresAreWorseThanAnyLatency) {
  LoadResult result;
  for (int i = 0; i < 98; ++i) result.intended.Record(5ms);
  const SearchGoal p90{.percentile = {"p90", 90}, .limit_ms = 50}, p99{.limit_ms = 50};
  EXPECT_NEAR(*GoalValueMs(p99, result), 5, 0.05);
  result.refusals[absl::StatusCode::kUnavailable].count = 1;
  result.unsent = 1;
  EXPECT_EQ(GoalValueMs(p99, result), std::nullopt);  // the 99th of 100 failed
  EXPECT_NEAR(*GoalValueMs(p90, result), 5, 0.05);
  EXPECT_EQ(GoalValueMs(p90, LoadResult()), std::nullopt);
}

}  // namespace
}  // namespace headlight::client
