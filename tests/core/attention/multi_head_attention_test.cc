// SPDX-License-Identifier: Apache-2.0
#include "core/attention/multi_head_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/core/testing/expect_near.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using testing::ExpectNearReference;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRng;
using testing::RandomInputs;
using testing::Rng;
using testing::StatusIs;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestSequence;

TestLayer SmallLayer() {
  const AttentionConfig config = AttentionConfig{.embed_dim = 32, .num_heads = 2}.Resolved();
  return {config, RandomWeights(config, 1)};
}

TEST(MultiHeadAttentionTest, ResolvesTheConfigAndCountsParameters) {
  const AttentionConfig config = {.embed_dim = 32, .num_heads = 2};
  const auto attention = MultiHeadAttention::Create(config, RandomWeights(config.Resolved(), 1));
  ASSERT_THAT(attention, IsOk());
  EXPECT_EQ(attention->config().head_dim, 16);
  EXPECT_EQ(attention->num_parameters(), 4 * (32 * 32 + 32));
}

TEST(MultiHeadAttentionTest, TakesTheFirstKernelThatAccepts) {
  const TestLayer layer = SmallLayer();
  const auto attention = MultiHeadAttention::Create(layer.config, layer.weights);
  ASSERT_THAT(attention, IsOk());
  for (const KernelEntry& entry : KernelTable()) {
    if (!entry.Accepts(layer.config).ok()) continue;
    EXPECT_EQ(attention->kernel_name(), entry.name);
    break;
  }
}

TEST(MultiHeadAttentionTest, TakesTheKernelAskedFor) {
  const TestLayer layer = SmallLayer();
  const auto attention = MultiHeadAttention::Create(layer.config, layer.weights, "matmul");
  ASSERT_THAT(attention, IsOk());
  EXPECT_EQ(attention->kernel_name(), "matmul");
}

TEST(MultiHeadAttentionTest, ListsTheKernelsForAnUnknownName) {
  const TestLayer layer = SmallLayer();
  const absl::Status status = MultiHeadAttention::Create(layer.config, layer.weights, "fastest").status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'fastest'")));
  for (const KernelEntry& entry : KernelTable()) {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(entry.name)));
  }
}

TEST(MultiHeadAttentionTest, JoinsTheRefusalsWhenNoKernelAccepts) {
  TestLayer layer = SmallLayer();
  layer.config.add_zero_attn = true;
  const absl::Status status = MultiHeadAttention::Create(layer.config, layer.weights).status();
  for (const KernelEntry& entry : KernelTable()) {
    const std::string refusal(entry.Accepts(layer.config).message());
    EXPECT_THAT(status,
                StatusIs(absl::StatusCode::kUnimplemented, AllOf(HasSubstr(entry.name), HasSubstr(refusal))));
  }
}

TEST(MultiHeadAttentionTest, RefusesAWrongConfig) {
  const TestLayer layer = SmallLayer();
  EXPECT_THAT(MultiHeadAttention::Create({.embed_dim = 32, .num_heads = 0}, layer.weights),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("num_heads")));
}

TEST(MultiHeadAttentionTest, RefusesWeightsOfAnotherLayer) {
  TestLayer layer = SmallLayer();
  layer.weights.wo.pop_back();
  EXPECT_THAT(MultiHeadAttention::Create(layer.config, layer.weights),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wo: got 1023 elements")));
}

TEST(MultiHeadAttentionTest, AttendsWithAnOrdinaryLayer) {
  const TestLayer layer = SmallLayer();
  const auto attention = MultiHeadAttention::Create(layer.config, layer.weights);
  ASSERT_THAT(attention, IsOk());
  Rng rng = MakeRng(0);
  const TestSequence sequence = RandomInputs(rng, layer.config, 10, 20);
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
  ComputeArena arena(1);
  const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena);
  ASSERT_THAT(attention->Forward(batch.batch(), arena, *workspace), IsOk());
  ExpectNearReference(layer, batch);
}

}  // namespace
}  // namespace headlight
