// SPDX-License-Identifier: Apache-2.0
#include "core/attention/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;

// Every matrix of another shape.
AttentionConfig OddConfig() {
  return AttentionConfig{
      .embed_dim = 10, .num_heads = 4, .num_kv_heads = 2, .head_dim = 3, .kdim = 5, .vdim = 7}
      .Resolved();
}

// FNV-1a over the bits: one number that pins them all.
uint64_t Checksum(const std::vector<float>& values) {
  uint64_t hash = 0xcbf29ce484222325;
  for (float value : values) hash = (hash ^ std::bit_cast<uint32_t>(value)) * 0x100000001b3;
  return hash;
}

TEST(RandomParametersTest, HasTheShapesOfTheConfig) {
  const AttentionConfig config = OddConfig();
  const AttentionParameters weights = RandomParameters(config, 1);
  EXPECT_THAT(weights.Validate(config), IsOk());
  EXPECT_EQ(weights.wq.size(), 10u * 12);
  EXPECT_EQ(weights.wk.size(), 5u * 6);
  EXPECT_EQ(weights.wv.size(), 7u * 6);
  EXPECT_EQ(weights.wo.size(), 12u * 10);
  EXPECT_EQ(weights.bq.size(), 12u);
  EXPECT_EQ(weights.bk.size(), 6u);
  EXPECT_EQ(weights.bv.size(), 6u);
  EXPECT_EQ(weights.bo.size(), 10u);
  EXPECT_THAT(weights.bias_k, IsEmpty());
  EXPECT_THAT(weights.bias_v, IsEmpty());
  EXPECT_EQ(weights.NumParameters(), 120 + 30 + 42 + 120 + 12 + 6 + 6 + 10);
}

TEST(RandomParametersTest, StaysInTheXavierBoundsOfEachMatrix) {
  const AttentionConfig config =
      AttentionConfig{.embed_dim = 96, .num_heads = 4, .head_dim = 8, .kdim = 20}.Resolved();
  const AttentionParameters weights = RandomParameters(config, 3);
  const auto expect_bound = [](const std::vector<float>& values, double bound) {
    float max = 0.0f;
    for (float value : values) max = std::max(max, std::abs(value));
    EXPECT_LE(max, bound);
    EXPECT_GT(max, 0.95 * bound) << "the range should be used";
  };
  expect_bound(weights.wq, std::sqrt(6.0 / (96 + 32)));
  expect_bound(weights.wk, std::sqrt(6.0 / (20 + 32)));
  expect_bound(weights.wv, std::sqrt(6.0 / (20 + 32)));
  expect_bound(weights.wo, std::sqrt(6.0 / (32 + 96)));
  for (const std::vector<float>* bias : {&weights.bq, &weights.bk, &weights.bv, &weights.bo}) {
    EXPECT_THAT(*bias, Each(::testing::AllOf(::testing::Ge(-0.02f), ::testing::Le(0.02f))));
  }
}

// The same on every machine and in every release, so that saved outputs of the demo model stay comparable.
// The numbers come from an implementation of the generator in another language.
TEST(RandomParametersTest, GivesTheSameBitsForever) {
  const AttentionParameters weights = RandomParameters(OddConfig(), 42);
  EXPECT_EQ(weights.wq[0], 0x1.10e5b2p-2f);
  EXPECT_EQ(weights.wq[1], 0x1.2965b2p-3f);
  EXPECT_EQ(weights.wo[119], -0x1.92c12cp-3f);
  EXPECT_EQ(weights.bo[9], 0x1.b6a142p-7f);
  EXPECT_EQ(Checksum(weights.wq), 0xbed4fb3653cc2f2f);
  EXPECT_EQ(Checksum(weights.wk), 0xb2c4c46358cf21fc);
  EXPECT_EQ(Checksum(weights.wv), 0xdf14857642f03095);
  EXPECT_EQ(Checksum(weights.wo), 0xe956b0eb5abca87b);
  EXPECT_EQ(Checksum(weights.bq), 0x40fa058a28a3d193);
  EXPECT_EQ(Checksum(weights.bo), 0x8845514744ecdab9);
}

TEST(RandomParametersTest, DependsOnTheSeed) {
  EXPECT_NE(RandomParameters(OddConfig(), 1).wq, RandomParameters(OddConfig(), 2).wq);
}

TEST(AttentionParametersTest, BiasesAreOptional) {
  AttentionParameters weights = RandomParameters(OddConfig(), 1);
  weights.bq.clear();
  weights.bk.clear();
  weights.bv.clear();
  weights.bo.clear();
  EXPECT_THAT(weights.Validate(OddConfig()), IsOk());
}

TEST(AttentionParametersTest, NamesTheTensorOfTheWrongSize) {
  const auto expect_refusal = [](std::vector<float> AttentionParameters::*tensor, size_t size,
                                 const std::string& message) {
    AttentionParameters weights = RandomParameters(OddConfig(), 1);
    (weights.*tensor).resize(size);
    EXPECT_THAT(weights.Validate(OddConfig()),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  expect_refusal(&AttentionParameters::wq, 119, "wq: got 119 elements, wanted 120 of shape [10, 12]");
  expect_refusal(&AttentionParameters::wk, 0, "wk: got 0 elements, wanted 30 of shape [5, 6]");
  expect_refusal(&AttentionParameters::wv, 30, "wv: got 30 elements, wanted 42 of shape [7, 6]");
  expect_refusal(&AttentionParameters::wo, 121, "wo: got 121 elements, wanted 120 of shape [12, 10]");
  expect_refusal(&AttentionParameters::bq, 6, "bq: got 6 elements, wanted 12 of shape [12]");
  expect_refusal(&AttentionParameters::bk, 12, "bk: got 12 elements, wanted 6 of shape [6]");
  expect_refusal(&AttentionParameters::bv, 1, "bv: got 1 elements, wanted 6 of shape [6]");
  expect_refusal(&AttentionParameters::bo, 12, "bo: got 12 elements, wanted 10 of shape [10]");
}

TEST(AttentionParametersTest, WantsTheAppendedKeyAndValueOfTheConfig) {
  AttentionConfig config = OddConfig();
  config.add_bias_kv = true;
  const AttentionParameters both = RandomParameters(config, 1);
  EXPECT_THAT(both.Validate(config), IsOk());
  EXPECT_EQ(both.NumParameters(), RandomParameters(OddConfig(), 1).NumParameters() + 6 + 6);
  const auto expect_refusal = [&](std::vector<float> AttentionParameters::*tensor, size_t size,
                                  const std::string& message) {
    AttentionParameters weights = both;
    (weights.*tensor).resize(size);
    EXPECT_THAT(weights.Validate(config), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  expect_refusal(&AttentionParameters::bias_k, 0, "bias_k: got 0 elements, wanted 6 of shape [6]");
  expect_refusal(&AttentionParameters::bias_v, 0, "bias_v: got 0 elements, wanted 6 of shape [6]");
  expect_refusal(&AttentionParameters::bias_k, 5, "bias_k: got 5 elements, wanted 6 of shape [6]");
  expect_refusal(&AttentionParameters::bias_v, 7, "bias_v: got 7 elements, wanted 6 of shape [6]");
}

TEST(AttentionParametersTest, RefusesAnAppendedKeyThatTheConfigDoesNotAskFor) {
  AttentionParameters weights = RandomParameters(OddConfig(), 1);
  weights.bias_k.resize(6);
  EXPECT_THAT(weights.Validate(OddConfig()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("bias_k: got 6 elements, wanted 0 of shape [0]")));
}

TEST(RandomParametersTest, DrawsTheAppendedKeyAndValueLast) {
  AttentionConfig config = OddConfig();
  config.add_bias_kv = true;
  AttentionParameters weights = RandomParameters(config, 42);
  EXPECT_THAT(weights.bias_k, ::testing::SizeIs(6));
  EXPECT_THAT(weights.bias_v, ::testing::SizeIs(6));
  EXPECT_NE(weights.bias_k, weights.bias_v);
  EXPECT_EQ(Checksum(weights.bo), 0x8845514744ecdab9) << "the others as without them";
}

}  // namespace
}  // namespace headlight
