// SPDX-License-Identifier: Apache-2.0
#include "client/load/rate_search.h"

#include <gtest/gtest.h>

namespace headlight::client {
namespace {

// A server whose latency explodes at its knee, as queues do: 1 ms / (1 - rate / knee), and failures beyond.
SearchResult SearchKnee(double knee, double limit_ms, SearchLimits limits = {}) {
  return SearchRate(limits, [&](double rate) -> std::optional<SearchStep> {
    SearchStep step{.rate = rate};
    if (rate < knee) step.value_ms = 1 / (1 - rate / knee);
    step.met = step.value_ms && *step.value_ms <= limit_ms;
    return step;
  });
}

TEST(RateSearchTest, FindsTheRateAtAKnownKnee) {
  // 1 / (1 - r / k) <= 10 ms holds up to r = 0.9 k.
  for (double knee : {3.0, 77.0, 1000.0, 54'321.0}) {
    const SearchResult result = SearchKnee(knee, 10);
    ASSERT_TRUE(result.best_rate.has_value()) << knee;
    EXPECT_LE(*result.best_rate, 0.9 * knee);
    EXPECT_GE(*result.best_rate, 0.9 * knee / 1.05);
    EXPECT_LE(result.steps.size(), 20u);
  }
}

TEST(RateSearchTest, DoublesThenBisects) {
  const SearchResult result = SearchKnee(1000, 10);
  ASSERT_GE(result.steps.size(), 6u);
  EXPECT_EQ(result.steps[0].rate, 100);
  EXPECT_EQ(result.steps[1].rate, 200);
  EXPECT_EQ(result.steps[3].rate, 800);
  EXPECT_TRUE(result.steps[3].met);
  EXPECT_EQ(result.steps[4].rate, 1600);
  EXPECT_FALSE(result.steps[4].value_ms.has_value());
  EXPECT_GT(result.steps[5].rate, 800);
  EXPECT_LT(result.steps[5].rate, 1600);
}

TEST(RateSearchTest, AGoalThatNoRateMeetsEndsToo) {
  const SearchResult result = SearchKnee(1000, 0.5);  // even an idle server takes 1 ms
  EXPECT_FALSE(result.best_rate.has_value());
  EXPECT_NEAR(result.steps.back().rate, SearchLimits().min_rate, 1e-9);
}

TEST(RateSearchTest, StopsAtTheHighestRate) {
  const SearchResult result = SearchKnee(1e9, 10, {.max_rate = 500});
  EXPECT_EQ(result.best_rate, 500);
}

TEST(RateSearchTest, AnInterruptKeepsWhatIsKnown) {
  int calls = 0;
  const SearchResult result = SearchRate({}, [&](double rate) -> std::optional<SearchStep> {
    if (++calls > 2) return std::nullopt;
    return SearchStep{.rate = rate, .value_ms = 1, .met = true};
  });
  EXPECT_EQ(result.best_rate, 200);
  EXPECT_EQ(result.steps.size(), 2u);
}

}  // namespace
}  // namespace headlight::client
