// SPDX-License-Identifier: Apache-2.0
#include "server/request/weights_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/attend/dtype_names.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;
using Mode = WeightsSink::Mode;

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();

AttentionConfig HeadsConfig(int64_t num_heads) {
  AttentionConfig config;
  config.embed_dim = 8 * num_heads;
  config.num_heads = num_heads;
  return config.Resolved();
}

ModelConfig StackOf(const AttentionConfig& layer, int64_t num_layers = 1) {
  ModelConfig config;
  config.block.attention = layer;
  config.num_layers = num_layers;
  return config;
}

WeightsFields FieldsOf(Mode mode, int64_t top_k = 0) {
  WeightsFields fields;
  fields.mode = mode;
  fields.top_k = top_k;
  return fields;
}

// `heads` must live on.
WeightsFields WithHeads(Mode mode, const std::vector<int64_t>& heads) {
  WeightsFields fields = FieldsOf(mode);
  fields.heads = heads;
  return fields;
}

WeightsFields WithQueries(Mode mode, int64_t begin, int64_t end) {
  WeightsFields fields = FieldsOf(mode);
  fields.query_begin = begin;
  fields.query_end = end;
  return fields;
}

void ExpectRefused(const WeightsFields& options, const std::string& message) {
  EXPECT_THAT(CheckWeights(options, StackOf(HeadsConfig(4), 3), kAttendNames),
              StatusIs(absl::StatusCode::kInvalidArgument, message));
}

// The plan of `options` for 3 sequences, the longest of 7 queries and 9 keys.
WeightsShapes PlanOf(const WeightsFields& options, const AttentionConfig& config, WeightsRequest* request) {
  auto checked = CheckWeights(options, StackOf(config), kAttendNames);
  EXPECT_THAT(checked, IsOk());
  *request = *std::move(checked);
  const auto shapes = PlanWeights(config, /*batch=*/3, /*q_len=*/7, /*kv_len=*/9, kAttendNames, *request);
  EXPECT_THAT(shapes, IsOk());
  return shapes.value_or(WeightsShapes());
}

TEST(WeightsChoiceTest, WithoutAModeNothingIsReported) {
  WeightsRequest request;
  const WeightsShapes shapes = PlanOf(FieldsOf(Mode::kNone), HeadsConfig(4), &request);
  EXPECT_EQ(request.mode, Mode::kNone);
  EXPECT_THAT(shapes.weights, IsEmpty());
  EXPECT_THAT(shapes.keys, IsEmpty());
  EXPECT_THAT(shapes.received_mass, IsEmpty());
}

TEST(WeightsChoiceTest, EachModeHasItsShapes) {
  WeightsRequest request;
  WeightsShapes shapes = PlanOf(FieldsOf(Mode::kFull), HeadsConfig(4), &request);
  EXPECT_EQ(request.mode, Mode::kFull);
  EXPECT_EQ(request.num_maps, 4);
  EXPECT_EQ(request.num_queries, 7);
  EXPECT_EQ(request.kv_len, 9);
  EXPECT_THAT(shapes.weights, ElementsAre(3, 4, 7, 9));
  EXPECT_THAT(shapes.keys, IsEmpty());
  EXPECT_THAT(shapes.received_mass, IsEmpty());

  shapes = PlanOf(FieldsOf(Mode::kMean), HeadsConfig(4), &request);
  EXPECT_EQ(request.num_maps, 1);
  EXPECT_THAT(shapes.weights, ElementsAre(3, 7, 9));

  shapes = PlanOf(FieldsOf(Mode::kTopK, 1024), HeadsConfig(4), &request);
  EXPECT_EQ(request.top_k, 1024);
  EXPECT_THAT(shapes.weights, ElementsAre(3, 4, 7, 1024));
  EXPECT_THAT(shapes.keys, ElementsAre(3, 4, 7, 1024));

  shapes = PlanOf(FieldsOf(Mode::kSummary), HeadsConfig(4), &request);
  EXPECT_THAT(shapes.weights, ElementsAre(3, 4, 6));
  EXPECT_THAT(shapes.received_mass, ElementsAre(3, 4, 9));

  shapes = PlanOf(FieldsOf(Mode::kGrid), HeadsConfig(4), &request);
  EXPECT_EQ(request.grid_rows, 7);
  EXPECT_EQ(request.grid_cols, 9);
  EXPECT_THAT(shapes.weights, ElementsAre(3, 4, 7, 9));
  EXPECT_THAT(shapes.received_mass, IsEmpty());
}

TEST(WeightsChoiceTest, AGridHasTheCellsThatAreAskedFor) {
  WeightsRequest request;
  WeightsFields fields = WithQueries(Mode::kGrid, 2, 6);
  fields.grid_rows = 64;
  fields.grid_cols = 2;
  EXPECT_THAT(PlanOf(fields, HeadsConfig(4), &request).weights, ElementsAre(3, 4, 4, 2));
  fields.grid_rows = 3;
  EXPECT_THAT(PlanOf(fields, HeadsConfig(4), &request).weights, ElementsAre(3, 4, 3, 2));
}

// 12 heads of 32,768 tokens: 51 GB as weights.
TEST(WeightsChoiceTest, AGridOfALongSequenceIsSmall) {
  auto request = CheckWeights(FieldsOf(Mode::kGrid), StackOf(HeadsConfig(12)), kAttendNames);
  ASSERT_THAT(request, IsOk());
  const auto shapes = PlanWeights(HeadsConfig(12), 1, 32'768, 32'768, kAttendNames, *request);
  ASSERT_THAT(shapes, IsOk());
  EXPECT_THAT(shapes->weights, ElementsAre(1, 12, 64, 64));
  EXPECT_EQ(*NumElements(shapes->weights) * SizeOf(DType::kF32), 196'608);
}

TEST(WeightsChoiceTest, RefusesGridsOutOfRangeAndWithoutUse) {
  for (const int64_t cells : {int64_t{-1}, int64_t{65}, kLargest}) {
    WeightsFields fields = FieldsOf(Mode::kGrid);
    fields.grid_rows = cells;
    ExpectRefused(fields, absl::StrCat("weights.grid_rows: got ", cells, ", wanted 1 to 64, or 0 for 64"));
    std::swap(fields.grid_rows, fields.grid_cols);
    ExpectRefused(fields, absl::StrCat("weights.grid_cols: got ", cells, ", wanted 1 to 64, or 0 for 64"));
  }
  for (const Mode mode : {Mode::kNone, Mode::kFull, Mode::kMean, Mode::kTopK, Mode::kSummary}) {
    WeightsFields fields = FieldsOf(mode, mode == Mode::kTopK ? 1 : 0);
    fields.grid_cols = 3;
    ExpectRefused(fields, "weights.grid_cols: got 3, wanted 0 without WEIGHTS_MODE_GRID");
  }
}

TEST(WeightsChoiceTest, SeveralLayersAreADimensionOfEveryShape) {
  const std::vector<int64_t> layers = {2, 0};
  for (const auto& [mode, rank] : std::vector<std::pair<Mode, size_t>>{
           {Mode::kFull, 5}, {Mode::kMean, 4}, {Mode::kTopK, 5}, {Mode::kSummary, 4}, {Mode::kGrid, 5}}) {
    WeightsFields fields = FieldsOf(mode, mode == Mode::kTopK ? 2 : 0);
    fields.layers = layers;
    auto request = CheckWeights(fields, StackOf(HeadsConfig(4), 3), kAttendNames);
    ASSERT_THAT(request, IsOk());
    EXPECT_THAT(request->layers, ElementsAre(2, 0));
    const auto shapes = PlanWeights(HeadsConfig(4), 3, 7, 9, kAttendNames, *request);
    ASSERT_THAT(shapes, IsOk());
    for (const Shape& shape : {shapes->weights, shapes->keys, shapes->received_mass}) {
      if (shape.empty()) continue;
      EXPECT_EQ(shape.size(), rank);
      EXPECT_EQ(shape[0], 3);
      EXPECT_EQ(shape[1], 2);
    }
  }
}

TEST(WeightsChoiceTest, RefusesLayersThatAreNot) {
  const auto refused = [](const std::vector<int64_t>& layers, const std::string& message) {
    WeightsFields fields = FieldsOf(Mode::kSummary);
    fields.layers = layers;
    ExpectRefused(fields, message);
  };
  refused({0, 3}, "weights.layers[1]: got 3, wanted 0 to 2");
  refused({-1}, "weights.layers[0]: got -1, wanted 0 to 2");
  refused({2, 0, 2}, "weights.layers[2]: got 2 again, wanted each layer once");
  refused(std::vector<int64_t>(1'000'000, 0), "weights.layers: got 1000000, wanted at most the model's 3");
  const std::vector<int64_t> layers = {1};
  WeightsFields fields = FieldsOf(Mode::kFull);
  fields.layers = layers;
  fields.layer = 1;
  ExpectRefused(fields, "weights.layer: got 1 beside weights.layers, wanted one of them");
  fields.layer.reset();
  fields.mode = Mode::kNone;
  ExpectRefused(fields, "weights.layers: got 1 without a mode, wanted none");
}

TEST(WeightsChoiceTest, AppendedKeysWidenTheWeights) {
  AttentionConfig config = HeadsConfig(4);
  config.add_bias_kv = true;
  config.add_zero_attn = true;
  WeightsRequest request;
  EXPECT_THAT(PlanOf(FieldsOf(Mode::kFull), config, &request).weights, ElementsAre(3, 4, 7, 11));
  EXPECT_THAT(PlanOf(FieldsOf(Mode::kSummary), config, &request).received_mass, ElementsAre(3, 4, 11));
}

TEST(WeightsChoiceTest, HeadsMayBeInAnyOrder) {
  WeightsRequest request;
  const WeightsShapes shapes = PlanOf(WithHeads(Mode::kFull, {3, 0}), HeadsConfig(4), &request);
  EXPECT_THAT(request.heads, ElementsAre(3, 0));
  EXPECT_THAT(shapes.weights, ElementsAre(3, 2, 7, 9));
  EXPECT_THAT(PlanOf(WithHeads(Mode::kFull, {1, 3, 2, 0}), HeadsConfig(4), &request).weights,
              ElementsAre(3, 4, 7, 9));
}

TEST(WeightsChoiceTest, AQueryRangeCounts) {
  WeightsRequest request;
  EXPECT_THAT(PlanOf(WithQueries(Mode::kFull, 2, 7), HeadsConfig(4), &request).weights,
              ElementsAre(3, 4, 5, 9));
  EXPECT_EQ(request.query_begin, 2);
  EXPECT_EQ(request.query_end, 7);
  EXPECT_THAT(PlanOf(WithQueries(Mode::kMean, 0, 1), HeadsConfig(4), &request).weights, ElementsAre(3, 1, 9));
}

TEST(WeightsChoiceTest, RefusesATopKOutOfRange) {
  for (const int64_t top_k : {int64_t{0}, int64_t{-1}, int64_t{1025}, kLargest}) {
    ExpectRefused(FieldsOf(Mode::kTopK, top_k),
                  "weights.top_k: got " + std::to_string(top_k) + ", wanted 1 to 1024");
  }
}

TEST(WeightsChoiceTest, RefusesATopKWithoutUse) {
  for (const Mode mode : {Mode::kNone, Mode::kFull, Mode::kMean, Mode::kSummary}) {
    ExpectRefused(FieldsOf(mode, 3), "weights.top_k: got 3, wanted 0 without WEIGHTS_MODE_TOP_K");
  }
}

TEST(WeightsChoiceTest, RefusesHeadsThatAreNot) {
  ExpectRefused(WithHeads(Mode::kFull, {0, 4}), "weights.heads[1]: got 4, wanted 0 to 3");
  ExpectRefused(WithHeads(Mode::kFull, {-1}), "weights.heads[0]: got -1, wanted 0 to 3");
}

TEST(WeightsChoiceTest, RefusesAHeadTwice) {
  ExpectRefused(WithHeads(Mode::kFull, {2, 1, 2}), "weights.heads[2]: got 2 again, wanted each head once");
}

TEST(WeightsChoiceTest, RefusesMoreHeadsThanThereAre) {
  ExpectRefused(WithHeads(Mode::kFull, std::vector<int64_t>(1'000'000, 0)),
                "weights.heads: got 1000000, wanted at most the model's 4");
}

TEST(WeightsChoiceTest, RefusesHeadsAndQueriesWithoutAMode) {
  ExpectRefused(WithHeads(Mode::kNone, {1}), "weights.heads: got 1 without a mode, wanted none");
  ExpectRefused(WithQueries(Mode::kNone, 0, 2),
                "weights.query_begin and weights.query_end: got [0, 2) without a mode, wanted both 0");
}

TEST(WeightsChoiceTest, RefusesQueriesThatAreNoRange) {
  for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{
           {2, 2}, {3, 2}, {-1, 2}, {5, 0}, {-2, -1}, {kLargest, kLargest}}) {
    ExpectRefused(WithQueries(Mode::kFull, begin, end),
                  "weights.query_begin and weights.query_end: got [" + std::to_string(begin) + ", " +
                      std::to_string(end) +
                      "), wanted a range that is not empty and does not begin below 0, or both 0");
  }
}

TEST(WeightsChoiceTest, RefusesQueriesBeyondTheLongestSequence) {
  for (const int64_t end : {int64_t{8}, kLargest}) {
    const AttentionConfig config = HeadsConfig(4);
    auto request = CheckWeights(WithQueries(Mode::kMean, 0, end), StackOf(config), kAttendNames);
    ASSERT_THAT(request, IsOk());
    EXPECT_THAT(
        PlanWeights(config, 3, 7, 9, kAttendNames, *request),
        StatusIs(absl::StatusCode::kInvalidArgument, "weights.query_end: got " + std::to_string(end) +
                                                         ", wanted at most the q_len 7 of the longest "
                                                         "sequence"));
  }
}

TEST(WeightsChoiceTest, ALayerIsOneOfTheModels) {
  WeightsFields options = FieldsOf(Mode::kMean);
  const auto last = CheckWeights(options, StackOf(HeadsConfig(4), 3), kAttendNames);
  ASSERT_THAT(last, IsOk());
  EXPECT_THAT(last->layers, ElementsAre(2));
  EXPECT_FALSE(last->lists_layers);
  for (const int64_t layer : {0, 1, 2}) {
    options.layer = layer;
    const auto request = CheckWeights(options, StackOf(HeadsConfig(4), 3), kAttendNames);
    ASSERT_THAT(request, IsOk());
    EXPECT_THAT(request->layers, ElementsAre(layer));
  }
  for (const int64_t layer : {int64_t{-1}, int64_t{3}, kLargest}) {
    options.layer = layer;
    ExpectRefused(options, absl::StrCat("weights.layer: got ", layer, ", wanted 0 to 2"));
  }
  WeightsFields none;
  none.layer = 0;
  ExpectRefused(none, "weights.layer: got 0 without a mode, wanted none");
}

}  // namespace
}  // namespace headlight
