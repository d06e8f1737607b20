// SPDX-License-Identifier: Apache-2.0
#include "server/batch/work_cost.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "tests/server/attend_fixtures.h"

namespace headlight {
namespace {

using testing::EncoderConfig;
using testing::LoadTestModel;
using testing::MakeTestModel;

// One query after the other.
double CountedPairs(int64_t q_len, int64_t kv_len, const Visibility& visibility) {
  double pairs = 0;
  for (int64_t query = 0; query < q_len; ++query) {
    const KeyRange keys = VisibleKeys(visibility, query, q_len, kv_len);
    pairs += static_cast<double>(keys.end - keys.begin);
  }
  return pairs;
}

TEST(WorkCostTest, PairsAreThoseThatAreVisible) {
  const std::optional<int64_t> windows[] = {std::nullopt, 0, 1, 3, 100};
  for (int64_t q_len : {1, 2, 5, 9}) {
    for (int64_t kv_len : {1, 4, 9, 13}) {
      for (bool causal : {false, true}) {
        for (const auto& left : windows) {
          for (const auto& right : windows) {
            const Visibility visibility = {causal, left, right};
            EXPECT_EQ(VisiblePairs(q_len, kv_len, visibility), CountedPairs(q_len, kv_len, visibility))
                << q_len << " x " << kv_len << (causal ? " causal" : "") << " left " << left.value_or(-1)
                << " right " << right.value_or(-1);
          }
        }
      }
    }
  }
}

BatchInput SelfInput(std::shared_ptr<const LoadedModel> model, std::vector<int64_t> lens) {
  BatchInput input;
  input.model = std::move(model);
  input.q_lens = input.kv_lens = std::move(lens);
  for (int64_t len : input.q_lens) input.q_tokens += len;
  input.kv_tokens = input.q_tokens;
  return input;
}

TEST(WorkCostTest, ALayerCostsItsProjectionsAndItsPairs) {
  const WorkCost cost = WorkCostOf(SelfInput(MakeTestModel("small").loaded, {3, 5}));
  EXPECT_EQ(cost.projection_flops, 2.0 * 8 * 4 * 16 * 16);  // q, k, v, out: 16 x 16 each, 8 tokens
  EXPECT_EQ(cost.attention_flops, 4.0 * (9 + 25) * 16);
  EXPECT_EQ(cost.bytes, 2.0 * 8 * 16 * 4);
}

TEST(WorkCostTest, KeysOfOtherTokensCostTheirOwnProjections) {
  BatchInput input = SelfInput(MakeTestModel("cross", testing::CrossConfig()).loaded, {2});
  input.kind = InputKind::kKeyAndValue;
  input.kv_lens = {7};
  input.kv_tokens = 7;
  const WorkCost cost = WorkCostOf(input);
  EXPECT_EQ(cost.projection_flops, 2.0 * (2 * 2 * 16 * 16 + 7 * (12 + 8) * 16));
  EXPECT_EQ(cost.attention_flops, 4.0 * 2 * 7 * 16);
}

TEST(WorkCostTest, AModelsOwnMaskCounts) {
  ModelConfig config = EncoderConfig();
  BatchInput open = SelfInput(LoadTestModel("open", config), {10});
  config.causal = true;
  BatchInput causal = SelfInput(LoadTestModel("causal", config), {10});
  EXPECT_EQ(WorkCostOf(open).attention_flops, 4.0 * 100 * 16 * 3);
  EXPECT_EQ(WorkCostOf(causal).attention_flops, 4.0 * 55 * 16 * 3);
}

TEST(WorkCostTest, EachLayerCountsAsItIs) {
  ModelConfig config = EncoderConfig();
  BlockConfig local = config.block;
  local.attention.window_left = local.attention.window_right = 0;
  local.attention.num_heads = local.attention.num_kv_heads = 1;
  local.attention.head_dim = 8;
  config.other_blocks = {local};
  config.layer_blocks = {0, 1, 1};
  const WorkCost cost = WorkCostOf(SelfInput(LoadTestModel("mixed", config), {10}));
  EXPECT_EQ(cost.attention_flops, 4.0 * (100 * 16 + 2 * 10 * 8));
  const double networks = 3 * 2 * 16 * 24;
  EXPECT_EQ(cost.projection_flops, 2.0 * 10 * (4 * 16 * 16 + 2 * 4 * 16 * 8 + networks));
}

TEST(WorkCostTest, AClassIsAModelsNameAndPrecision) {
  const auto first = MakeTestModel("a", testing::SmallConfig(), "1").loaded;
  const auto second = MakeTestModel("a", testing::SmallConfig(), "2").loaded;
  EXPECT_EQ(CostClassOf(*first), CostClassOf(*second));
  EXPECT_NE(CostClassOf(*first), CostClassOf(*MakeTestModel("b").loaded));
}

// At 10 GB/s.
TEST(WorkCostTest, AnUnknownModelIsTakenToReadItsWeightsForEachBatch) {
  ModelConfig config;
  config.block.attention.embed_dim = 384;
  config.block.attention.num_heads = 12;
  config.num_layers = 6;
  config = config.Resolved();
  const double weight_ns = static_cast<double>(ProjectionFlopsPerToken(config)) / 2 * 0.1;
  const double batch_ns = CostPrior{}.fixed_ns;
  EXPECT_DOUBLE_EQ(CostPriorOf(config, Precision::kF32).fixed_ns, batch_ns + 4 * weight_ns);
  EXPECT_DOUBLE_EQ(CostPriorOf(config, Precision::kBf16).fixed_ns, batch_ns + 2 * weight_ns);
  EXPECT_DOUBLE_EQ(CostPriorOf(config, Precision::kInt8).fixed_ns, batch_ns + weight_ns);
}

TEST(WorkCostTest, ATicketIsDescribedByItsInput) {
  BatchInput input = SelfInput(MakeTestModel("small").loaded, {3, 5});
  Ticket ticket;
  DescribeWork(input, ticket);
  EXPECT_EQ(ticket.cost.projection_flops, WorkCostOf(input).projection_flops);
  EXPECT_EQ(ticket.tokens, input.cost_tokens());
  EXPECT_EQ(ticket.cost_class, CostClassOf(*input.model));
  input.kind = InputKind::kTokenIds;
  Ticket other;
  DescribeWork(input, other);
  EXPECT_FALSE(ticket.batch_key == other.batch_key) << "inputs of two kinds share no batch";
}

}  // namespace
}  // namespace headlight
