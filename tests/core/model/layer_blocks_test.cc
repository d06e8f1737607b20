// SPDX-License-Identifier: Apache-2.0
//
// What is particular to models whose layers differ. That they compute what the reference does, with the same
// bits on any threads and in any company, model_test.cc has for all models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/attention/rope_table.h"
#include "core/checkpoint/memory_estimate.h"
#include "core/model/model.h"
#include "core/model/reference.h"
#include "tests/core/model/test_model.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::LayersOfManyShapes;
using testing::LocalAndGlobalLayers;
using testing::ModelInputs;
using testing::StatusIs;

constexpr auto kRefused = absl::StatusCode::kInvalidArgument;

absl::Status RunLayers(const Model& model, ModelInputs& inputs) {
  ComputeArena arena(2);
  return model.Forward(inputs.Batch(), arena, *Model::NewWorkspace(arena));
}

TEST(LayerBlocksTest, LayersThatAreAlikeComputeTheSameHoweverThatIsSaid) {
  ModelConfig alike = LocalAndGlobalLayers();
  alike.other_blocks.clear();
  alike.layer_blocks.clear();
  ModelConfig said = alike;
  said.other_blocks = {alike.block};
  said.layer_blocks = {0, 1, 0};
  for (const Precision precision : {Precision::kF32, Precision::kInt8}) {
    alike.SetPrecision(precision);
    said.SetPrecision(precision);
    const ModelParameters parameters = RandomModelParameters(alike.Resolved(), 3);
    const absl::StatusOr<Model> one = Model::Create(alike, parameters);
    const absl::StatusOr<Model> other = Model::Create(said, parameters);
    ASSERT_THAT(one, IsOk());
    ASSERT_THAT(other, IsOk());
    EXPECT_EQ(one->packed_bytes(), other->packed_bytes());
    ModelInputs first(alike, {20, 3, 90}, {1, 2, 3});
    ModelInputs second(alike, {20, 3, 90}, {1, 2, 3});
    ASSERT_THAT(RunLayers(*one, first), IsOk());
    ASSERT_THAT(RunLayers(*other, second), IsOk());
    EXPECT_TRUE(testing::SameBits(first.output, second.output));
    const ForwardShape shape = SelfAttentionShape(113, 3, 90);
    EXPECT_EQ(one->ForwardBytes(shape, 2), other->ForwardBytes(shape, 2));
    EXPECT_EQ(EstimateMemory(alike).peak_bytes, EstimateMemory(said).peak_bytes);
  }
}

TEST(LayerBlocksTest, EqualPositionsShareATable) {
  ModelConfig config = LocalAndGlobalLayers();
  const ModelParameters parameters = RandomModelParameters(config.Resolved(), 1);
  const absl::StatusOr<Model> two = Model::Create(config, parameters);
  ASSERT_THAT(two, IsOk());
  for (BlockConfig& other : config.other_blocks) other.attention.rope = config.block.attention.rope;
  const absl::StatusOr<Model> one = Model::Create(config, parameters);
  ASSERT_THAT(one, IsOk());
  EXPECT_EQ(two->packed_bytes(),
            one->packed_bytes() + RopeTable::ModelBytes(*config.Resolved().block.attention.rope));
}

TEST(LayerBlocksTest, TheEstimateBoundsWhatIsPacked) {
  for (ModelConfig config : {LocalAndGlobalLayers(), LayersOfManyShapes()}) {
    for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
      config.SetPrecision(precision);
      const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config.Resolved(), 1));
      ASSERT_THAT(model, IsOk());
      EXPECT_GE(EstimateMemory(config).packed_bytes, model->packed_bytes());
    }
  }
}

// Beyond the positions of a model's own tables, the workspace makes those of each layer anew.
TEST(LayerBlocksTest, PositionsBeyondTheTablesAreThoseOfEachLayer) {
  ModelConfig config = LocalAndGlobalLayers();
  for (BlockConfig& other : config.other_blocks) {
    other.attention.window_left = other.attention.window_right = 3;
  }
  config = config.Resolved();
  const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
  ASSERT_THAT(model, IsOk());
  const int64_t length = RopeTable::kPositions + 40;
  ModelInputs inputs(config, {length}, {1});
  // What the last tokens see is the same, whatever stands far before them: positions count as differences.
  ModelInputs tail(config, {100}, {1});
  std::copy(inputs.token_ids.end() - 100, inputs.token_ids.end(), tail.token_ids.begin());
  ComputeArena arena(2);
  const std::unique_ptr<ModelWorkspace> workspace = Model::NewWorkspace(arena);
  ASSERT_THAT(model->Forward(inputs.Batch(), arena, *workspace), IsOk());
  EXPECT_LE(workspace->held_bytes(), model->ForwardBytes(SelfAttentionShape(length, 1, length), 2));
  ASSERT_THAT(RunLayers(*model, tail), IsOk());
  for (int64_t i = 1; i <= 20 * inputs.width; ++i) {
    EXPECT_NEAR(inputs.output.end()[-i], tail.output.end()[-i], 1e-4);
  }
}

class LayersOfManyShapesTest : public ::testing::Test {
 protected:
  const ModelConfig config_ = LayersOfManyShapes().Resolved();
  const ModelParameters parameters_ = RandomModelParameters(config_, 1);
  const Model model_ = *Model::Create(config_, parameters_);
};

TEST_F(LayersOfManyShapesTest, RefusesAMaskForEachHead) {
  const std::vector<uint8_t> mask(6 * 5 * 5, 1);
  ModelInputs inputs(config_, {7, 5}, {1, 2});
  inputs.sequences[1].mask = {.data = mask.data(), .head_stride = 25, .query_stride = 5};
  EXPECT_THAT(RunLayers(model_, inputs),
              StatusIs(kRefused, HasSubstr("sequences[1].mask: got a head_stride of 25")));
  inputs.sequences[1].mask.head_stride = 0;
  EXPECT_THAT(RunLayers(model_, inputs), IsOk());
}

TEST_F(LayersOfManyShapesTest, WeightsAreOfTheHeadsThatTheirLayerHas) {
  const std::vector<int64_t> heads = {5, 1};
  std::vector<float> got(2 * 4 * 4);
  ModelInputs inputs(config_, {4}, {1});
  inputs.sequences[0].weights = {.mode = WeightsSink::Mode::kFull,
                                 .data = got.data(),
                                 .head_stride = 16,
                                 .query_stride = 4,
                                 .heads = heads};
  inputs.weights_layer = {1};
  EXPECT_THAT(RunLayers(model_, inputs),
              StatusIs(kRefused, HasSubstr("weights.heads[0]: got 5, wanted 0..3")));
  inputs.weights_layer = {2};
  ASSERT_THAT(RunLayers(model_, inputs), IsOk());
  const std::vector<double> wanted =
      ReferenceModel(config_, parameters_, inputs.Batch()).layers[2][0].weights;
  for (int64_t i = 0; i < 16; ++i) {
    EXPECT_NEAR(got[i], wanted[5 * 16 + i], 1e-5) << i;
    EXPECT_NEAR(got[16 + i], wanted[16 + i], 1e-5) << i;
  }
}

}  // namespace
}  // namespace headlight
