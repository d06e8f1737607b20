// SPDX-License-Identifier: Apache-2.0
#include "client/load/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "client/load/quantile_ranks.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

TEST(LatencyHistogramTest, IsZeroWithoutRecords) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.mean(), 0ns);
  EXPECT_EQ(histogram.max(), 0ns);
  EXPECT_EQ(histogram.Percentile(50), 0ns);
}

TEST(LatencyHistogramTest, OneRecordIsEveryPercentile) {
  LatencyHistogram histogram;
  histogram.Record(1234567ns);
  for (double percent : {0.0, 50.0, 99.0, 100.0}) EXPECT_EQ(histogram.Percentile(percent), 1234567ns);
}

TEST(LatencyHistogramTest, SmallValuesAreExactNearestRanks) {
  LatencyHistogram histogram;
  for (int i = 1; i <= 100; ++i) histogram.Record(nanoseconds(i));
  EXPECT_EQ(histogram.Percentile(50), 50ns);
  EXPECT_EQ(histogram.Percentile(95), 95ns);
  EXPECT_EQ(histogram.Percentile(99), 99ns);
  EXPECT_EQ(histogram.Percentile(99.1), 100ns);
  EXPECT_EQ(histogram.Percentile(100), 100ns);
  EXPECT_EQ(histogram.Percentile(0), 1ns);
  EXPECT_EQ(histogram.mean(), 50ns);
}

TEST(LatencyHistogramTest, PercentilesLieWithinOnePercentAboveTheExactOnes) {
  std::mt19937_64 random(1);
  std::vector<int64_t> values;
  LatencyHistogram histogram;
  for (int i = 0; i < 10'000; ++i) {
    values.push_back(int64_t{1} << (random() % 40) | static_cast<int64_t>(random() % 1'000'000));
    histogram.Record(nanoseconds(values.back()));
  }
  std::sort(values.begin(), values.end());
  for (double percent : {1.0, 10.0, 50.0, 90.0, 95.0, 99.0, 99.9}) {
    const int64_t exact = values[static_cast<size_t>(std::ceil(percent / 100 * 10'000)) - 1];
    const int64_t got = histogram.Percentile(percent).count();
    EXPECT_GE(got, exact);
    EXPECT_LE(static_cast<double>(got), static_cast<double>(exact) * 1.01);
  }
  EXPECT_EQ(histogram.Percentile(100).count(), values.back());
}

TEST(LatencyHistogramTest, TakesTheWholeRange) {
  LatencyHistogram histogram;
  histogram.Record(-5ns);
  histogram.Record(nanoseconds::max());
  EXPECT_EQ(histogram.Percentile(50), 0ns);
  EXPECT_EQ(histogram.Percentile(100), nanoseconds::max());
}

TEST(LatencyHistogramTest, MergingIsLikeRecordingBoth) {
  LatencyHistogram small, large, both;
  for (int i = 0; i < 1000; ++i) {
    small.Record(nanoseconds(i));
    both.Record(nanoseconds(i));
    large.Record(nanoseconds(i * 1'000'000));
    both.Record(nanoseconds(i * 1'000'000));
  }
  LatencyHistogram merged = small;
  merged.Merge(large);
  EXPECT_EQ(merged.count(), 2000);
  EXPECT_EQ(merged.mean(), both.mean());
  EXPECT_EQ(merged.max(), both.max());
  for (int percent = 0; percent <= 100; percent += 5) {
    EXPECT_EQ(merged.Percentile(percent), both.Percentile(percent));
  }
  LatencyHistogram reversed = large;
  reversed.Merge(small);
  EXPECT_EQ(reversed.Percentile(50), merged.Percentile(50));
}

TEST(LatencyHistogramTest, RanksAndCountsAreExactForSmallValues) {
  LatencyHistogram histogram;
  for (int i = 1; i <= 200; ++i) histogram.Record(nanoseconds(i));
  for (int rank : {1, 2, 100, 199, 200}) EXPECT_EQ(histogram.AtRank(rank), nanoseconds(rank));
  EXPECT_EQ(histogram.CountUpTo(0ns), 0);
  EXPECT_EQ(histogram.CountUpTo(57ns), 57);
  EXPECT_EQ(histogram.CountUpTo(1s), 200);
}

TEST(LatencyHistogramTest, APercentileOfAWholeRankIsThatRank) {
  // 99.9 / 100 * 1000 is above 999 in binary; the rank is 999 all the same.
  LatencyHistogram histogram;
  for (int i = 1; i <= 1000; ++i) histogram.Record(nanoseconds(i <= 999 ? 1 : 200));
  EXPECT_EQ(histogram.Percentile(99.9), 1ns);
}

// Probability that a binomial count is at most `k`, term by term.
double BinomialAtMost(int64_t n, double share, int64_t k) {
  double sum = 0;
  for (int64_t i = 0; i <= k; ++i) {
    const double a = static_cast<double>(n), b = static_cast<double>(i);
    sum += std::exp(std::lgamma(a + 1) - std::lgamma(b + 1) - std::lgamma(a - b + 1) + b * std::log(share) +
                    (a - b) * std::log1p(-share));
  }
  return sum;
}

TEST(QuantileRanksTest, AreTheTightestThatLeaveOutAtMostTwoAndAHalfPercentOnEachSide) {
  for (const double share : {0.5, 0.9, 0.95, 0.99, 0.999}) {
    for (const int64_t n : {1, 5, 10, 100, 1000, 5000}) {
      const QuantileRanks ranks = QuantileRanks95(n, share);
      // The value of rank r is above the quantile if fewer than r are below it.
      if (ranks.low > 0) {
        EXPECT_LE(BinomialAtMost(n, share, ranks.low - 1), 0.025 + 1e-9);
      }
      EXPECT_GT(BinomialAtMost(n, share, ranks.low), 0.025 - 1e-9);
      if (ranks.high <= n) {
        EXPECT_LE(1 - BinomialAtMost(n, share, ranks.high - 1), 0.025 + 1e-9);
      }
      if (ranks.high > 1) {
        EXPECT_GT(1 - BinomialAtMost(n, share, ranks.high - 2), 0.025 - 1e-9);
      }
    }
  }
}

TEST(QuantileRanksTest, AreThoseOfTheTextbooks) {
  EXPECT_EQ(QuantileRanks95(10, 0.5).low, 2);  // the median of ten lies between the 2nd and the 9th
  EXPECT_EQ(QuantileRanks95(10, 0.5).high, 9);
  EXPECT_EQ(QuantileRanks95(100, 0.5).low, 40);
  EXPECT_EQ(QuantileRanks95(100, 0.5).high, 61);
  EXPECT_EQ(QuantileRanks95(100, 0.99).high, 101);  // the 99th percentile of a hundred has no upper bound
}

TEST(QuantileRanksTest, AnswersForBillions) {
  const QuantileRanks ranks = QuantileRanks95(1'000'000'000, 0.5);
  const double half_width = 1.959964 * std::sqrt(0.25e9);  // the normal approximation is good here
  EXPECT_NEAR(static_cast<double>(ranks.low), 5e8 - half_width, 3);
  EXPECT_NEAR(static_cast<double>(ranks.high), 5e8 + half_width, 3);
}

}  // namespace
}  // namespace headlight::client
