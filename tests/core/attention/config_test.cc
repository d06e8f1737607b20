// SPDX-License-Identifier: Apache-2.0
#include "core/attention/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
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

}  // namespace
}  // namespace headlight
