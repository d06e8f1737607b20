// SPDX-License-Identifier: Apache-2.0
#include "core/attention/precision_error.h"

#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;

AttentionConfig ConfigOf(Precision precision) {
  AttentionConfig config;
  config.embed_dim = 64;
  config.num_heads = 4;
  config.precision = precision;
  return config.Resolved();
}

PrecisionError ErrorOf(const AttentionConfig& config) {
  const AttentionWeights weights = RandomWeights(config, /*seed=*/3);
  const auto attention = MultiHeadAttention::Create(config, weights);
  EXPECT_THAT(attention, IsOk());
  const auto error = MeasurePrecisionError(*attention, weights);
  EXPECT_THAT(error, IsOk());
  return error.value_or(PrecisionError{-1, -1, -1});
}

TEST(PrecisionErrorTest, F32HasNone) {
  const PrecisionError error = ErrorOf(ConfigOf(Precision::kF32));
  EXPECT_EQ(error.max_abs, 0.0);
  EXPECT_EQ(error.rms, 0.0);
  EXPECT_EQ(error.cosine, 1.0);
}

// Whatever this CPU computes the others in: f32 has no error, anything else has one, and a small one.
TEST(PrecisionErrorTest, NarrowerPrecisionsHaveASmallOne) {
  for (const Precision precision : {Precision::kBf16, Precision::kInt8}) {
    AttentionConfig config = ConfigOf(precision);
    config.kdim = 32;
    config.vdim = 48;
    const AttentionWeights weights = RandomWeights(config, /*seed=*/3);
    const auto attention = MultiHeadAttention::Create(config, weights);
    ASSERT_THAT(attention, IsOk());
    const auto error = MeasurePrecisionError(*attention, weights);
    ASSERT_THAT(error, IsOk());
    const bool exact = attention->precision() == Precision::kF32;
    EXPECT_EQ(error->max_abs > 0.0, !exact);
    EXPECT_EQ(error->rms > 0.0, !exact);
    EXPECT_LE(error->rms, error->max_abs);
    EXPECT_LE(error->cosine, 1.0);
    EXPECT_GT(error->cosine, 0.99);
  }
}

TEST(PrecisionErrorTest, IsTheSameEveryTime) {
  const PrecisionError once = ErrorOf(ConfigOf(Precision::kBf16));
  const PrecisionError again = ErrorOf(ConfigOf(Precision::kBf16));
  EXPECT_EQ(once.max_abs, again.max_abs);
  EXPECT_EQ(once.rms, again.rms);
  EXPECT_EQ(once.cosine, again.cosine);
}

}  // namespace
}  // namespace headlight
