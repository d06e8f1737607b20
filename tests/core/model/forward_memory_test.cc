// SPDX-License-Identifier: Apache-2.0
//
// How much memory Forward is said to take, and takes.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "core/model/model.h"
#include "tests/core/model/test_model.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::ModelInputs;

// Lists of lengths: one sequence and many, short and long, alike and ragged.
std::vector<std::vector<int64_t>> Lengths() {
  return {{1},
          {17},
          {300},
          std::vector<int64_t>(100, 1),
          std::vector<int64_t>(40, 33),
          {300, 1, 1, 1, 1, 1},
          {1, 300, 2, 200, 3, 100, 4, 50},
          std::vector<int64_t>(12, 256)};
}

class ForwardMemoryTest : public ::testing::TestWithParam<testing::NamedConfig> {};

INSTANTIATE_TEST_SUITE_P(Configs, ForwardMemoryTest, ::testing::ValuesIn(testing::ModelConfigs()),
                         [](const auto& info) { return info.param.name; });

// Where the last sequence asks for weights.
ForwardShape ShapeOf(const std::vector<int64_t>& lengths, WeightsSink::Mode mode) {
  int64_t tokens = 0;
  for (const int64_t length : lengths) tokens += length;
  const bool is_grid = mode == WeightsSink::Mode::kGrid;
  return SelfAttentionShape(tokens, std::ssize(lengths), *std::max_element(lengths.begin(), lengths.end()),
                            WeightsSink{.mode = mode}.KeepsRows() ? lengths.back() : 0,
                            is_grid ? lengths.back() : 0);
}

// The bound has slack where it does not know how lengths are spread over the groups that are packed together.
TEST_P(ForwardMemoryTest, IsBoundedFromAboveAndBelow) {
  double largest = 0;
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    ModelConfig config = GetParam().config.Resolved();
    config.SetPrecision(precision);
    const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
    ASSERT_THAT(model, IsOk());
    for (const std::vector<int64_t>& lengths : Lengths()) {
      for (const int threads : {1, 2, 7}) {
        for (const auto mode :
             {WeightsSink::Mode::kNone, WeightsSink::Mode::kFull, WeightsSink::Mode::kGrid}) {
          SCOPED_TRACE(::testing::Message()
                       << Name(precision) << ", " << lengths.size() << " sequences, the first of "
                       << lengths[0] << ", " << threads << " threads, weights " << static_cast<int>(mode));
          ModelInputs inputs(config, lengths, std::vector<uint64_t>(lengths.size(), 1));
          std::vector<float> weights(300);
          if (mode != WeightsSink::Mode::kNone) {
            // One query of the last sequence, of one head.
            static const int64_t head = 0;
            inputs.sequences.back().weights = {.mode = mode,
                                               .data = weights.data(),
                                               .head_stride = 300,
                                               .query_stride = 300,
                                               .heads = {&head, 1},
                                               .query_begin = 0,
                                               .query_end = 1};
          }
          ComputeArena arena(threads);
          const std::unique_ptr<ModelWorkspace> workspace = Model::NewWorkspace(arena);
          ASSERT_THAT(model->Forward(inputs.Batch(), arena, *workspace), IsOk());
          const int64_t bound = model->ForwardBytes(ShapeOf(lengths, mode), threads);
          EXPECT_LE(workspace->held_bytes(), bound);
          EXPECT_LE(bound, workspace->held_bytes() * 3 / 2);
          largest =
              std::max(largest, static_cast<double>(bound) / static_cast<double>(workspace->held_bytes()));
        }
      }
    }
  }
  std::cout << "at most " << largest << " times what is held\n";
}

TEST_P(ForwardMemoryTest, AWorkspaceHoldsNoMoreThanTheLargestOfAllItsBatches) {
  const ModelConfig config = GetParam().config.Resolved();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
  ASSERT_THAT(model, IsOk());
  ComputeArena arena(2);
  const std::unique_ptr<ModelWorkspace> workspace = Model::NewWorkspace(arena);
  ForwardShape largest;
  for (const std::vector<int64_t>& lengths : Lengths()) {
    ModelInputs inputs(config, lengths, std::vector<uint64_t>(lengths.size(), 1));
    ASSERT_THAT(model->Forward(inputs.Batch(), arena, *workspace), IsOk());
    const ForwardShape shape = ShapeOf(lengths, WeightsSink::Mode::kNone);
    largest = SelfAttentionShape(std::max(largest.tokens, shape.tokens),
                                 std::max(largest.num_sequences, shape.num_sequences),
                                 std::max(largest.longest, shape.longest));
    EXPECT_LE(workspace->held_bytes(), model->ForwardBytes(largest, 2));
  }
}

TEST_P(ForwardMemoryTest, ATrimmedWorkspaceHoldsAsMuchAsItMayAndComputesTheSame) {
  const ModelConfig config = GetParam().config.Resolved();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
  ASSERT_THAT(model, IsOk());
  ComputeArena arena(2);
  const std::unique_ptr<ModelWorkspace> workspace = Model::NewWorkspace(arena);
  ModelInputs inputs(config, {5, 300, 20}, {1, 2, 3});
  ASSERT_THAT(model->Forward(inputs.Batch(), arena, *workspace), IsOk());
  const std::vector<float> before = inputs.output;
  const int64_t held = workspace->held_bytes();
  workspace->Trim(held);
  EXPECT_EQ(workspace->held_bytes(), held) << "nothing exceeds";
  for (const int64_t max_bytes : {held - 1, held / 2, int64_t{100000}, int64_t{0}}) {
    workspace->Trim(max_bytes);
    EXPECT_LE(workspace->held_bytes(), std::max<int64_t>(max_bytes, 20000)) << "lists may stay";
    std::fill(inputs.output.begin(), inputs.output.end(), -7.0f);
    ASSERT_THAT(model->Forward(inputs.Batch(), arena, *workspace), IsOk());
    EXPECT_TRUE(testing::SameBits(inputs.output, before));
    EXPECT_EQ(workspace->held_bytes(), held);
  }
}

// What models of all kinds leave behind in a workspace, one after the other.
TEST(ForwardMemoryOfManyModelsTest, AWorkspaceGrowsByNoMoreThanWasSaid) {
  ComputeArena arena(2);
  const std::unique_ptr<ModelWorkspace> workspace = Model::NewWorkspace(arena);
  EXPECT_EQ(workspace->held_bytes(), 0);
  int64_t needed_apart = 0;
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    for (const testing::NamedConfig& named : testing::ModelConfigs()) {
      ModelConfig config = named.config.Resolved();
      config.SetPrecision(precision);
      const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
      ASSERT_THAT(model, IsOk());
      int64_t needed = 0;
      for (const std::vector<int64_t>& lengths : Lengths()) {
        SCOPED_TRACE(::testing::Message() << named.name << ", " << Name(precision) << ", " << lengths.size()
                                          << " sequences, the first of " << lengths[0]);
        ModelInputs inputs(config, lengths, std::vector<uint64_t>(lengths.size(), 1));
        const ForwardShape shape = ShapeOf(lengths, WeightsSink::Mode::kNone);
        const int64_t before = workspace->held_bytes();
        const int64_t growth = model->ForwardGrowth(shape, *workspace);
        EXPECT_LE(growth, model->ForwardBytes(shape, 2));
        ASSERT_THAT(model->Forward(inputs.Batch(), arena, *workspace), IsOk());
        EXPECT_LE(workspace->held_bytes(), before + growth);
        EXPECT_LE(model->ForwardGrowth(shape, *workspace), model->ForwardBytes(shape, 2) / 3)
            << "a second batch like it takes little or nothing";
        needed = std::max(needed, model->ForwardBytes(shape, 2));
      }
      needed_apart += needed;
    }
  }
  EXPECT_LT(workspace->held_bytes(), needed_apart / 10);
}

TEST_P(ForwardMemoryTest, WhatOnlyABurstNeededGoesBack) {
  const ModelConfig config = GetParam().config.Resolved();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
  ASSERT_THAT(model, IsOk());
  ComputeArena arena(2);
  const auto run = [&](ModelWorkspace& workspace, const std::vector<int64_t>& lengths) {
    ModelInputs inputs(config, lengths, std::vector<uint64_t>(lengths.size(), 1));
    EXPECT_THAT(model->Forward(inputs.Batch(), arena, workspace), IsOk());
    return inputs.output;
  };
  const std::unique_ptr<ModelWorkspace> alone = Model::NewWorkspace(arena);
  const std::vector<float> expected = run(*alone, {17, 5});
  const std::unique_ptr<ModelWorkspace> workspace = Model::NewWorkspace(arena);
  run(*workspace, {300, 300, 300});
  const int64_t burst = workspace->held_bytes();
  workspace->TrimUnused();
  EXPECT_EQ(workspace->held_bytes(), burst) << "all of it was used";
  EXPECT_TRUE(testing::SameBits(run(*workspace, {17, 5}), expected));
  workspace->TrimUnused();
  EXPECT_LT(workspace->held_bytes(), 2 * alone->held_bytes() + 20000) << "lists may stay";
  EXPECT_TRUE(testing::SameBits(run(*workspace, {17, 5}), expected));
}

// A bare layer may attend from few rows to many, or the reverse.
TEST(ForwardMemoryOfOneLayerTest, CrossAttentionIsBoundedToo) {
  ModelConfig config;
  config.block.attention = {.embed_dim = 48, .num_heads = 4, .kdim = 40, .vdim = 56, .rope = RopeConfig{}};
  config = config.Resolved();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
  ASSERT_THAT(model, IsOk());
  testing::Rng rng = testing::MakeRng(0);
  ComputeArena arena(2);
  const std::unique_ptr<ModelWorkspace> kept = Model::NewWorkspace(arena);
  for (const auto& [q_len, kv_len] : {std::pair(1L, 900L), std::pair(900L, 1L), std::pair(300L, 500L)}) {
    const testing::TestSequence sequence = testing::RandomInputs(rng, config.block.attention, q_len, kv_len);
    testing::TestBatch batch(config.block.attention, {&sequence, &sequence}, WeightsSink::Mode::kNone);
    const std::unique_ptr<ModelWorkspace> workspace = Model::NewWorkspace(arena);
    ModelBatch model_batch;
    model_batch.attention = batch.batch();
    ASSERT_THAT(model->Forward(model_batch, arena, *workspace), IsOk());
    const int64_t bound = model->ForwardBytes(headlight::ShapeOf(batch.batch()), 2);
    EXPECT_LE(workspace->held_bytes(), bound);
    EXPECT_LE(bound, workspace->held_bytes() * 3 / 2);
    const int64_t before = kept->held_bytes();
    const int64_t growth = model->ForwardGrowth(headlight::ShapeOf(batch.batch()), *kept);
    ASSERT_THAT(model->Forward(model_batch, arena, *kept), IsOk());
    EXPECT_LE(kept->held_bytes(), before + growth);
  }
}

}  // namespace
}  // namespace headlight
