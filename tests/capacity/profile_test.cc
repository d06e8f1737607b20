// SPDX-License-Identifier: Apache-2.0
#include "capacity/profile.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

namespace headlight::capacity {
namespace {

double MeanOf(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TEST(ProfileTest, FindsTheLineThatTimesLieOn) {
  std::vector<Sample> samples;
  for (int64_t requests = 1; requests <= 8; ++requests) {
    const double estimate_us = 900.0 * static_cast<double>(requests);
    for (int64_t i = 0; i < requests; ++i)
      samples.push_back({estimate_us, 400 + 1.5 * estimate_us, requests});
  }
  const auto fit = FitTimes(samples);
  ASSERT_TRUE(fit.ok()) << fit.status();
  EXPECT_NEAR(fit->fixed_us, 400, 1e-3);
  EXPECT_NEAR(fit->scale, 1.5, 1e-6);
  for (const double factor : fit->scatter) EXPECT_NEAR(factor, 1, 1e-6);
}

TEST(ProfileTest, ADisturbedBatchScattersAndDoesNotBendTheLine) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> noise(0.95, 1.05);
  std::vector<Sample> samples;
  for (int i = 0; i < 400; ++i) {
    const double estimate_us = 500 + 20 * i;
    samples.push_back({estimate_us, (300 + estimate_us) * noise(random) * (i % 50 == 0 ? 20 : 1), 1});
  }
  const auto fit = FitTimes(samples);
  ASSERT_TRUE(fit.ok()) << fit.status();
  // What 2 % of batches take 20 times longer for is in the mean of all, and its shape in the scatter.
  EXPECT_NEAR(fit->scale, 1.38, 0.05);
  EXPECT_NEAR(MeanOf(fit->scatter), 1, 1e-9);
  EXPECT_GT(fit->scatter[50], 10);
}

TEST(ProfileTest, BatchesThatAreAllAlikeTellWhatRequestsTake) {
  const auto fit = FitTimes({{100, 250, 1}, {100, 250, 1}});
  ASSERT_TRUE(fit.ok()) << fit.status();
  EXPECT_EQ(fit->fixed_us, 0);
  EXPECT_NEAR(fit->scale, 2.5, 1e-9);
}

TEST(ProfileTest, WithoutTimesThereIsNoLine) {
  EXPECT_EQ(FitTimes({}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FitTimes({{100, 0, 1}}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace headlight::capacity
