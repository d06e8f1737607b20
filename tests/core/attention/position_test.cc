// SPDX-License-Identifier: Apache-2.0
#include "core/attention/position.h"

#include <gtest/gtest.h>

#include <cmath>

namespace headlight {
namespace {

TEST(AlibiSlopeTest, HalvesFromHeadToHeadOfEight) {
  for (int64_t head = 0; head < 8; ++head) EXPECT_EQ(AlibiSlope(head, 8), std::ldexp(1.0, -1 - head)) << head;
}

TEST(AlibiSlopeTest, IsARootOfTwoApartForSixteen) {
  EXPECT_DOUBLE_EQ(AlibiSlope(0, 16), std::sqrt(0.5));
  EXPECT_DOUBLE_EQ(AlibiSlope(15, 16), 1.0 / 256);
}

// The paper's own rule: the 8 slopes of 8 heads, then the first, third, ... of 16.
TEST(AlibiSlopeTest, FillsUpOtherNumbersFromTheNextPowerOfTwo) {
  for (int64_t head = 0; head < 8; ++head) EXPECT_EQ(AlibiSlope(head, 12), AlibiSlope(head, 8)) << head;
  for (int64_t head = 8; head < 12; ++head) {
    EXPECT_DOUBLE_EQ(AlibiSlope(head, 12), std::pow(2.0, -0.5 - (head - 8))) << head;
  }
  EXPECT_EQ(AlibiSlope(0, 1), 1.0 / 256);
}

TEST(RopeFrequencyTest, FallsFromPairToPair) {
  const RopeConfig rope = {.theta = 10000.0, .rotary_dim = 8};
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 0), 1.0);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 1), 0.1);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 3), 0.001);
}

TEST(RopeFrequencyTest, LinearScalingDividesAllAlike) {
  const RopeConfig rope = {.rotary_dim = 8, .scaling = RopeConfig::Scaling::kLinear, .factor = 4.0};
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 0), 0.25);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 2), 0.0025);
}

TEST(RopeFrequencyTest, NtkScalingKeepsTheFastestAndDividesTheSlowestByTheFactor) {
  const RopeConfig rope = {.rotary_dim = 8, .scaling = RopeConfig::Scaling::kNtk, .factor = 5.0};
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 0), 1.0);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 3), 0.001 / 5);
}

// Waves of 2 pi / 10^-i tokens. With 1000 tokens, low factor 1 and high factor 4, slow are those above 1000,
// fast those below 250: pair 0 and 1 are fast (6.3 and 63 tokens), pair 3 is slow (6283), pair 2 is between
// (628 tokens are 1000 / 628.3 = 1.5915 waves, a share of 0.5915 / 3 = 0.19718 of it is kept).
TEST(RopeFrequencyTest, Llama3ScalingBlendsBetweenFastAndSlowPairs) {
  const RopeConfig rope = {
      .rotary_dim = 8, .scaling = RopeConfig::Scaling::kLlama3, .factor = 8.0, .original_max_len = 1000};
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 0), 1.0);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 1), 0.1);
  EXPECT_NEAR(RopeFrequency(rope, 2), 0.01 * (0.197183 + 0.802817 / 8), 1e-8);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 3), 0.001 / 8);
}

// As transformers 5.24 computes it for 16 dimensions, in f32.
TEST(RopeFrequencyTest, YarnScalingBlendsFromPairToPair) {
  RopeConfig rope = {
      .rotary_dim = 16, .scaling = RopeConfig::Scaling::kYarn, .factor = 8.0, .original_max_len = 1000};
  const double whole[] = {1.0,       0.31622776,    0.078125, 0.017787812,
                          0.0034375, 0.00039528473, 0.000125, 3.9528473e-05};
  const double between[] = {1.0,          0.31622776,    0.08236631, 0.016854761,
                            0.0024232557, 0.00039528473, 0.000125,   3.9528473e-05};
  for (int64_t pair = 0; pair < 8; ++pair) {
    EXPECT_NEAR(RopeFrequency(rope, pair) / whole[pair], 1.0, 1e-6) << pair;
  }
  rope.truncate = false;
  for (int64_t pair = 0; pair < 8; ++pair) {
    EXPECT_NEAR(RopeFrequency(rope, pair) / between[pair], 1.0, 1e-6) << pair;
  }
}

// A base so small that all pairs turn often: the bounds lie behind the last of them.
TEST(RopeFrequencyTest, YarnScalingHasBoundsOutsideOfThePairs) {
  RopeConfig rope = {.theta = 1.5,
                     .rotary_dim = 4,
                     .scaling = RopeConfig::Scaling::kYarn,
                     .factor = 2.0,
                     .original_max_len = 1 << 20};
  for (const int64_t pair : {0, 1}) {
    const double frequency = std::pow(1.5, -0.5 * static_cast<double>(pair));
    EXPECT_DOUBLE_EQ(RopeFrequency(rope, pair), frequency / 2) << "as transformers has it";
  }
  rope.original_max_len = 1;
  for (const int64_t pair : {0, 1}) {
    const double frequency = std::pow(1.5, -0.5 * static_cast<double>(pair));
    EXPECT_TRUE(std::isfinite(RopeFrequency(rope, pair)));
    EXPECT_LE(RopeFrequency(rope, pair), frequency);
  }
}

TEST(RopeFrequencyTest, EachPairMayHaveItsOwnFactor) {
  const RopeConfig rope = {
      .rotary_dim = 8, .scaling = RopeConfig::Scaling::kByPair, .pair_factors = {1.0, 2.0, 4.0, 0.5}};
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 0), 1.0);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 1), 0.1 / 2);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 2), 0.01 / 4);
  EXPECT_DOUBLE_EQ(RopeFrequency(rope, 3), 0.001 / 0.5);
}

}  // namespace
}  // namespace headlight
