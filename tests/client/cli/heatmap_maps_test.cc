// SPDX-License-Identifier: Apache-2.0
#include "client/cli/heatmap_maps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace headlight::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(HeatmapMapsTest, ExtentsComeFromLengthsOrElseShapes) {
  const std::vector<float> values(100);
  AttendCall call{.query = TensorView{{2, 5, 4}, values}};
  EXPECT_EQ(ExtentOf(call, 1)->q_len, 5);
  EXPECT_EQ(ExtentOf(call, 1)->num_sequences, 2);
  call.seq_lens = {5, 3};
  EXPECT_EQ(ExtentOf(call, 1)->q_len, 3);
  EXPECT_EQ(ExtentOf(call, 1)->kv_len, 3);
  EXPECT_TRUE(ExtentOf(call, 1)->self_attention);
  call.key = TensorView{{2, 7, 4}, values};
  EXPECT_EQ(ExtentOf(call, 1)->kv_len, 7);
  EXPECT_FALSE(ExtentOf(call, 1)->self_attention);
  call.kv_seq_lens = {7, 6};
  EXPECT_EQ(ExtentOf(call, 1)->kv_len, 6);

  AttendCall ragged{.query = TensorView{{8, 4}, values}, .seq_lens = {5, 3}};
  EXPECT_EQ(ExtentOf(ragged, 0)->q_len, 5);
  ragged.seq_lens = {};
  EXPECT_EQ(ExtentOf(ragged, 0)->q_len, 8);

  const std::vector<int32_t> ids(6);
  EXPECT_EQ(ExtentOf({.token_ids = IdsView{{1, 6}, std::span<const int32_t>(ids)}}, 0)->q_len, 6);
}

TEST(HeatmapMapsTest, ASequenceThatIsNotThereIsRefused) {
  const std::vector<float> values(40);
  const AttendCall call{.query = TensorView{{2, 5, 4}, values}};
  EXPECT_EQ(ExtentOf(call, 2).status().message(),
            "--sequence: got 2, wanted less than 2, the number of sequences");
}

TEST(HeatmapMapsTest, LayersAreAllOrThoseGiven) {
  v1::Model model;
  model.set_name("m");
  model.set_num_layers(3);
  EXPECT_THAT(*LayersOf(*ParseLayers("all"), model), ElementsAre(0, 1, 2));
  EXPECT_THAT(*LayersOf(*ParseLayers("2,0"), model), ElementsAre(2, 0));
  EXPECT_EQ(LayersOf({3}, model).status().message(), "--layers: got 3, wanted less than 3, the layers of m");
  EXPECT_THAT(std::string(ParseLayers("some").status().message()),
              HasSubstr("got 'some', wanted all, or layers"));
}

TEST(HeatmapMapsTest, LabelsAreNumbersWithoutTokens) {
  EXPECT_THAT(*Labels("--tokens", {}, 3), ElementsAre("0", "1", "2"));
  EXPECT_THAT(*Labels("--tokens", {"a", "b"}, 2), ElementsAre("a", "b"));
  EXPECT_EQ(Labels("--tokens", {"a", "b"}, 3).status().message(),
            "--tokens: got 2 lines, wanted 3, one for each token of the sequence");
}

TEST(HeatmapMapsTest, PaddingIsCutOffTheWeights) {
  // [2, 1, 2, 3]: the second sequence has 1 query and 2 keys.
  AttendReply reply;
  reply.weights = Tensor{{2, 1, 2, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0}};
  std::vector<float> weights;
  EXPECT_TRUE(AppendMaps(reply, 1, {1, 1, 2}, weights).ok());
  EXPECT_THAT(weights, ElementsAre(7, 8));
}

TEST(HeatmapMapsTest, RepliesOfAnotherShapeAreRefused) {
  AttendReply reply;
  std::vector<float> weights;
  EXPECT_EQ(AppendMaps(reply, 0, {1, 1, 1}, weights).code(), absl::StatusCode::kInternal);
  reply.weights = Tensor{{1, 1, 2, 3}, std::vector<float>(6)};
  for (const Shape& wanted : {Shape{2, 2, 3}, Shape{1, 3, 3}, Shape{1, 2, 4}}) {
    EXPECT_EQ(AppendMaps(reply, 0, wanted, weights).code(), absl::StatusCode::kInternal);
  }
  EXPECT_EQ(AppendMaps(reply, 1, {1, 2, 3}, weights).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(AppendStatistic(reply, 0, 1, 0, weights).code(), absl::StatusCode::kInternal);
  EXPECT_THAT(weights, IsEmpty());
}

TEST(HeatmapMapsTest, AStatisticIsTakenOfEachHead) {
  AttendReply reply;
  reply.weights = Tensor{{1, 2, 6}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}};
  std::vector<float> values;
  EXPECT_TRUE(AppendStatistic(reply, 0, 2, 4, values).ok());
  EXPECT_THAT(values, ElementsAre(4, 10));
}

}  // namespace
}  // namespace headlight::client
