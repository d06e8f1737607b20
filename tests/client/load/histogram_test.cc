// SPDX-License-Identifier: Apache-2.0
#include "client/load/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

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

}  // namespace
}  // namespace headlight::client
