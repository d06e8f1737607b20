// SPDX-License-Identifier: Apache-2.0
#include "server/security/rate_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::Le;
using ::testing::Optional;

const TimePoint kStart = TimePoint() + std::chrono::hours(1);

TimePoint At(int64_t milliseconds) { return kStart + std::chrono::milliseconds(milliseconds); }

TEST(RateLimitTest, ASecondsWorthMayComeAtOnce) {
  RateLimit limit(0.5);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(limit.Take(At(0), 0.125), std::nullopt) << i;
  EXPECT_NE(limit.Take(At(0), 0.1), std::nullopt);
}

TEST(RateLimitTest, WhoComesAgainWhenToldIsLetIn) {
  RateLimit limit(0.5);
  EXPECT_EQ(limit.Take(At(0), 1.5), std::nullopt);  // a second's worth, and two of debt
  EXPECT_THAT(limit.Take(At(0), 0.1), Optional(AllOf(Ge(2'000'000), Le(2'000'010))));
  EXPECT_THAT(limit.Take(At(1500), 0.1), Optional(AllOf(Ge(500'000), Le(500'010))));
  EXPECT_EQ(limit.Take(At(2001), 0.1), std::nullopt);
}

TEST(RateLimitTest, OverTimeItIsTheRateHoweverMuchIsAskedFor) {
  RateLimit limit(0.25);
  double taken_s = 0;
  for (int64_t ms = 0; ms < 100'000; ++ms) {
    if (!limit.Take(At(ms), 0.01)) taken_s += 0.01;
  }
  EXPECT_NEAR(taken_s, 0.25 * 100 + 0.25, 0.02);
}

TEST(RateLimitTest, RestingSavesNoMoreThanASecond) {
  RateLimit limit(1);
  EXPECT_EQ(limit.Take(At(0), 1), std::nullopt);
  EXPECT_EQ(limit.Take(At(3'600'000), 1), std::nullopt);
  EXPECT_NE(limit.Take(At(3'600'000), 0.1), std::nullopt);
}

TEST(RateLimitTest, WhatIsGivenBackCountsAgain) {
  RateLimit limit(1);
  EXPECT_EQ(limit.Take(At(0), 1), std::nullopt);
  limit.GiveBack(1);
  EXPECT_EQ(limit.Take(At(0), 1), std::nullopt);
  EXPECT_NE(limit.Take(At(0), 0.1), std::nullopt);
}

TEST(RateLimitTest, TimeThatSeemsToGoBackBringsNothing) {
  RateLimit limit(1);
  EXPECT_EQ(limit.Take(At(1000), 1), std::nullopt);
  EXPECT_NE(limit.Take(At(0), 0.1), std::nullopt);
  EXPECT_NE(limit.Take(At(1000), 0.1), std::nullopt);
}

}  // namespace
}  // namespace headlight
