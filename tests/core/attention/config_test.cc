// SPDX-License-Identifier: Apache-2.0
#include "core/attention/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

AttentionConfig ValidConfig() { return {.embed_dim = 768, .num_heads = 12}; }

TEST(AttentionConfigTest, FillsInTheDefaults) {
  const AttentionConfig config = ValidConfig();
  ASSERT_THAT(config.Validate(), IsOk());
  const AttentionConfig resolved = config.Resolved();
  EXPECT_EQ(resolved.num_kv_heads, 12);
  EXPECT_EQ(resolved.head_dim, 64);
  EXPECT_EQ(resolved.kdim, 768);
  EXPECT_EQ(resolved.vdim, 768);
  EXPECT_DOUBLE_EQ(resolved.scale.value(), 0.125);
  EXPECT_THAT(resolved.Validate(), IsOk());
}

TEST(AttentionConfigTest, KeepsWhatIsGiven) {
  const AttentionConfig config = {.embed_dim = 100,
                                  .num_heads = 6,
                                  .num_kv_heads = 2,
                                  .head_dim = 17,
                                  .kdim = 30,
                                  .vdim = 40,
                                  .scale = -0.5,
                                  .add_zero_attn = true};
  ASSERT_THAT(config.Validate(), IsOk());
  const AttentionConfig resolved = config.Resolved();
  EXPECT_EQ(resolved.num_kv_heads, 2);
  EXPECT_EQ(resolved.head_dim, 17);
  EXPECT_EQ(resolved.kdim, 30);
  EXPECT_EQ(resolved.vdim, 40);
  EXPECT_DOUBLE_EQ(resolved.scale.value(), -0.5);
  EXPECT_TRUE(resolved.add_zero_attn);
}

TEST(AttentionConfigTest, ValuesComeFromTheKeysInputByDefault) {
  AttentionConfig config = ValidConfig();
  config.kdim = 256;
  EXPECT_EQ(config.Resolved().vdim, 256);
}

TEST(AttentionConfigTest, DerivesTheProjectionsWidths) {
  const AttentionConfig config = {.embed_dim = 100, .num_heads = 6, .num_kv_heads = 2, .head_dim = 17};
  EXPECT_EQ(config.q_width(), 102);
  EXPECT_EQ(config.kv_width(), 34);
  EXPECT_EQ(config.heads_per_kv_head(), 3);
}

// One field out of range, and what the message must say about it.
struct BadField {
  std::string name;
  int64_t AttentionConfig::*field;
  int64_t value;
  std::string message;
};

class BadFieldTest : public ::testing::TestWithParam<BadField> {};

TEST_P(BadFieldTest, IsRefusedByName) {
  AttentionConfig config = ValidConfig();
  config.*GetParam().field = GetParam().value;
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Config, BadFieldTest,
    ::testing::Values(
        BadField{"ZeroEmbedDim", &AttentionConfig::embed_dim, 0, "embed_dim: got 0, wanted 1..65536"},
        BadField{"NegativeEmbedDim", &AttentionConfig::embed_dim, -768,
                 "embed_dim: got -768, wanted 1..65536"},
        BadField{"HugeEmbedDim", &AttentionConfig::embed_dim, 65537, "embed_dim: got 65537, wanted 1..65536"},
        BadField{"ZeroHeads", &AttentionConfig::num_heads, 0, "num_heads: got 0, wanted 1..1024"},
        BadField{"TooManyHeads", &AttentionConfig::num_heads, 1025, "num_heads: got 1025, wanted 1..1024"},
        BadField{"HeadsThatDoNotDivide", &AttentionConfig::num_heads, 7,
                 "num_heads: got 7, wanted a divisor of embed_dim 768"},
        BadField{"NegativeKvHeads", &AttentionConfig::num_kv_heads, -1,
                 "num_kv_heads: got -1, wanted 0..1024"},
        BadField{"KvHeadsThatDoNotDivide", &AttentionConfig::num_kv_heads, 5,
                 "num_kv_heads: got 5, wanted a divisor of num_heads 12"},
        BadField{"MoreKvHeadsThanHeads", &AttentionConfig::num_kv_heads, 24,
                 "num_kv_heads: got 24, wanted a divisor of num_heads 12"},
        BadField{"NegativeHeadDim", &AttentionConfig::head_dim, -1, "head_dim: got -1, wanted 0..1024"},
        BadField{"WideHeads", &AttentionConfig::head_dim, 1025, "head_dim: got 1025, wanted 0..1024"},
        BadField{"NegativeKdim", &AttentionConfig::kdim, -1, "kdim: got -1, wanted 0..65536"},
        BadField{"HugeVdim", &AttentionConfig::vdim, std::numeric_limits<int64_t>::max(),
                 "vdim: got 9223372036854775807"}),
    [](const auto& info) { return info.param.name; });

TEST(AttentionConfigTest, RefusesDefaultHeadsThatAreTooWide) {
  const AttentionConfig config = {.embed_dim = 2048, .num_heads = 1};
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("head_dim (embed_dim / num_heads): got 2048")));
}

TEST(AttentionConfigTest, RefusesTooManyColumnsInAllHeads) {
  const AttentionConfig config = {.embed_dim = 768, .num_heads = 1024, .head_dim = 1024};
  EXPECT_THAT(config.Validate(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("num_heads * head_dim: got 1048576")));
}

TEST(AttentionConfigTest, RefusesScalesThatAreNotOrdinaryNumbers) {
  for (double scale : {std::nan(""), std::numeric_limits<double>::infinity(), 1e7, -1e7}) {
    AttentionConfig config = ValidConfig();
    config.scale = scale;
    EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("scale: got ")))
        << scale;
  }
}

TEST(AttentionConfigTest, AnExplicitHeadDimNeedNotDivideTheWidth) {
  const AttentionConfig config = {.embed_dim = 100, .num_heads = 7, .head_dim = 16};
  EXPECT_THAT(config.Validate(), IsOk());
}

// A change to a valid config, and what the message must say about it.
struct BadChange {
  std::string name;
  std::function<void(AttentionConfig&)> change;
  std::string message;
};

class BadChangeTest : public ::testing::TestWithParam<BadChange> {};

TEST_P(BadChangeTest, IsRefusedByName) {
  AttentionConfig config = ValidConfig();
  config.rope = RopeConfig{};
  ASSERT_THAT(config.Validate(), IsOk());
  GetParam().change(config);
  EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
using Scaling = RopeConfig::Scaling;

INSTANTIATE_TEST_SUITE_P(
    Config, BadChangeTest,
    ::testing::Values(
        BadChange{"ZeroTheta", [](auto& c) { c.rope->theta = 0; },
                  "rope.theta: got 0, wanted a number above 0 and at most 1e+12"},
        BadChange{"NanTheta", [](auto& c) { c.rope->theta = kNan; }, "rope.theta: got nan"},
        BadChange{"NegativeFactor", [](auto& c) { c.rope->factor = -2; }, "rope.factor: got -2"},
        BadChange{"InfiniteFactor", [](auto& c) { c.rope->factor = 1 / 0.0; }, "rope.factor: got inf"},
        BadChange{"RotaryDimBeyondTheHead", [](auto& c) { c.rope->rotary_dim = 66; },
                  "rope.rotary_dim: got 66, wanted 0..64"},
        BadChange{"NegativeRotaryDim", [](auto& c) { c.rope->rotary_dim = -2; },
                  "rope.rotary_dim: got -2, wanted 0..64"},
        BadChange{"OddRotaryDim", [](auto& c) { c.rope->rotary_dim = 7; },
                  "rope.rotary_dim: got 7, wanted an even number"},
        BadChange{"OddHeadDim", [](auto& c) { c.head_dim = 17; },
                  "rope.rotary_dim: got 17, wanted an even number"},
        BadChange{"NtkOfOnePair",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kNtk;
                    c.rope->rotary_dim = 2;
                  },
                  "rope.rotary_dim: got 2, wanted at least 4 with NTK scaling"},
        BadChange{"ZeroLowFreqFactor",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kLlama3;
                    c.rope->low_freq_factor = 0;
                  },
                  "rope.low_freq_factor: got 0"},
        BadChange{"HugeHighFreqFactor",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kLlama3;
                    c.rope->high_freq_factor = 1e13;
                  },
                  "rope.high_freq_factor: got 1e+13"},
        BadChange{"SwappedFreqFactors",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kLlama3;
                    c.rope->low_freq_factor = c.rope->high_freq_factor;
                  },
                  "rope.high_freq_factor: got 4, wanted more than low_freq_factor 4"},
        BadChange{"NoOriginalLength",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kLlama3;
                    c.rope->original_max_len = 0;
                  },
                  "rope.original_max_len: got 0, wanted 1..1099511627776"},
        BadChange{"YarnThetaOfOne",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kYarn;
                    c.rope->theta = 1;
                  },
                  "rope.theta: got 1, wanted more than 1 with YaRN scaling"},
        BadChange{"YarnBetasInTheOtherOrder",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kYarn;
                    c.rope->beta_fast = 0.5;
                  },
                  "rope.beta_fast: got 0.5, wanted at least beta_slow 1"},
        BadChange{"YarnOriginalMaxLenZero",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kYarn;
                    c.rope->original_max_len = 0;
                  },
                  "rope.original_max_len: got 0, wanted 1..1099511627776"},
        BadChange{"TooFewPairFactors",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kByPair;
                    c.rope->pair_factors = {1.0};
                  },
                  "rope.pair_factors: got 1, wanted one for each of the 32 pairs"},
        BadChange{"APairFactorOfZero",
                  [](auto& c) {
                    c.rope->scaling = Scaling::kByPair;
                    c.rope->pair_factors = std::vector<double>(32, 1.0);
                    c.rope->pair_factors[7] = 0.0;
                  },
                  "rope.pair_factors[7]: got 0"},
        BadChange{"NoMagnitude", [](auto& c) { c.rope->magnitude = 0; }, "rope.magnitude: got 0"},
        BadChange{"NegativeMaxLen", [](auto& c) { c.rope->max_len = -1; }, "rope.max_len: got -1"},
        BadChange{"NegativeSoftcap", [](auto& c) { c.logit_softcap = -30; },
                  "logit_softcap: got -30, wanted 0, or 1e-06..1e+12"},
        BadChange{"TinySoftcap", [](auto& c) { c.logit_softcap = 1e-40; },
                  "logit_softcap: got 1e-40, wanted 0, or 1e-06..1e+12"},
        BadChange{"NanSoftcap", [](auto& c) { c.logit_softcap = kNan; }, "logit_softcap: got nan"},
        BadChange{"NegativeWindowLeft", [](auto& c) { c.window_left = -1; },
                  "window_left: got -1, wanted at least 0"},
        BadChange{"NegativeWindowRight", [](auto& c) { c.window_right = -7; },
                  "window_right: got -7, wanted at least 0"}),
    [](const auto& info) { return info.param.name; });

TEST(AttentionConfigTest, ConstantsOfAnotherScalingDoNotMatter) {
  AttentionConfig config = ValidConfig();
  config.rope = RopeConfig{.low_freq_factor = -1, .high_freq_factor = -2, .original_max_len = 0};
  EXPECT_THAT(config.Validate(), IsOk());
}

TEST(AttentionConfigTest, TurnsTheWholeHeadByDefault) {
  AttentionConfig config = ValidConfig();
  config.rope = RopeConfig{};
  EXPECT_EQ(config.Resolved().rope->rotary_dim, 64);
  config.rope->rotary_dim = 32;
  EXPECT_EQ(config.Resolved().rope->rotary_dim, 32);
}

TEST(AttentionConfigTest, CountsTheAppendedKeys) {
  AttentionConfig config = ValidConfig();
  EXPECT_EQ(config.num_appended_keys(), 0);
  config.add_bias_kv = true;
  EXPECT_EQ(config.num_appended_keys(), 1);
  config.add_zero_attn = true;
  EXPECT_EQ(config.num_appended_keys(), 2);
}

}  // namespace
}  // namespace headlight
