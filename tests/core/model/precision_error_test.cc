// SPDX-License-Identifier: Apache-2.0
#include "core/model/precision_error.h"

#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;

// A single attention layer.
ModelConfig ConfigOf(Precision precision) {
  ModelConfig config;
  config.block.attention.embed_dim = 64;
  config.block.attention.num_heads = 4;
  config.block.attention.precision = precision;
  return config.Resolved();
}

PrecisionError ErrorOf(const ModelConfig& config) {
  const ModelParameters weights = RandomModelParameters(config, /*seed=*/3);
  const absl::StatusOr<Model> model = Model::Create(config, weights);
  EXPECT_THAT(model, IsOk());
  const auto error = MeasurePrecisionError(*model, weights);
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
    ModelConfig config = ConfigOf(precision);
    config.block.attention.kdim = 32;
    config.block.attention.vdim = 48;
    const ModelParameters weights = RandomModelParameters(config, /*seed=*/3);
    const absl::StatusOr<Model> model = Model::Create(config, weights);
    ASSERT_THAT(model, IsOk());
    const auto error = MeasurePrecisionError(*model, weights);
    ASSERT_THAT(error, IsOk());
    const bool exact = model->attention().precision() == Precision::kF32;
    EXPECT_EQ(error->max_abs > 0.0, !exact);
    EXPECT_EQ(error->rms > 0.0, !exact);
    EXPECT_LE(error->rms, error->max_abs);
    EXPECT_LE(error->cosine, 1.0);
    EXPECT_GT(error->cosine, 0.99);
  }
}

TEST(PrecisionErrorTest, NarrowParametersHaveASmallOne) {
  double before = 0.0;
  for (const Precision held : {Precision::kBf16, Precision::kInt8}) {
    ModelConfig config = ConfigOf(Precision::kF32);
    config.SetParametersPrecision(held);
    const PrecisionError error = ErrorOf(config);
    EXPECT_GT(error.rms, before) << Name(held);
    EXPECT_GE(error.cosine, ExpectedCosine(held)) << Name(held);
    before = error.rms;
  }
}

TEST(PrecisionErrorTest, IsTheSameEveryTime) {
  const PrecisionError once = ErrorOf(ConfigOf(Precision::kBf16));
  const PrecisionError again = ErrorOf(ConfigOf(Precision::kBf16));
  EXPECT_EQ(once.max_abs, again.max_abs);
  EXPECT_EQ(once.rms, again.rms);
  EXPECT_EQ(once.cosine, again.cosine);
}

TEST(PrecisionErrorTest, WarnsWhereMoreIsLostThanExpected) {
  EXPECT_EQ(PrecisionWarning({.cosine = 0.9981}, Precision::kInt8), "");
  EXPECT_EQ(PrecisionWarning({.cosine = 0.9996}, Precision::kBf16), "");
  EXPECT_EQ(PrecisionWarning({}, Precision::kF32), "");
  EXPECT_EQ(PrecisionWarning({.cosine = 0.9979}, Precision::kInt8),
            "int8 takes the outputs further from f32 than it should: cosine 0.997900 of the probe, wanted "
            "0.998; ask "
            "for a wider precision, or compare on data of your own");
  EXPECT_NE(PrecisionWarning({.cosine = 0.999}, Precision::kBf16), "");
}

}  // namespace
}  // namespace headlight
