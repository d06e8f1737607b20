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

TEST(HeatmapMapsTest, LayersAreAllOrThoseGiven) {
  v1::Model model;
  model.set_name("m");
  model.set_num_layers(3);
  EXPECT_THAT(*LayersOf(*ParseLayers("all"), model), ElementsAre(0, 1, 2));
  EXPECT_THAT(*LayersOf(*ParseLayers("2,0"), model), ElementsAre(2, 0));
  EXPECT_EQ(LayersOf({3}, model).status().message(), "--layers: got 3, wanted less than 3, the layers of m");
  EXPECT_THAT(std::string(ParseLayers("some").status().message()),
              HasSubstr("got 'some', wanted all, or layers"));
  EXPECT_EQ(ParseLayers("2,0,2").status().message(),
            "got '2,0,2', wanted all, or layers counted from 0, each once: 2 is there again");
}

TEST(HeatmapMapsTest, LabelsAreNumbersWithoutTokens) {
  EXPECT_THAT(*Labels("--tokens", {}, 3), ElementsAre("0", "1", "2"));
  EXPECT_THAT(*Labels("--tokens", {"a", "b"}, 2), ElementsAre("a", "b"));
  EXPECT_EQ(Labels("--tokens", {"a", "b"}, 3).status().message(),
            "--tokens: got 2 lines, wanted 3, one for each token of the sequence");
}

TEST(HeatmapMapsTest, PaddingIsCutOffTheWeights) {
  // Two maps of 2 queries and 3 keys, of a sequence with 1 query and 2 keys.
  AttendReply reply;
  reply.weights = Tensor{{1, 2, 2, 3}, {1, 2, 0, 0, 0, 0, 7, 8, 0, 0, 0, 0}};
  std::vector<float> weights;
  EXPECT_TRUE(AppendMaps(reply, {2, 1, 2}, weights).ok());
  EXPECT_THAT(weights, ElementsAre(1, 2, 7, 8));
}

TEST(HeatmapMapsTest, RepliesOfAnotherShapeAreRefused) {
  AttendReply reply;
  std::vector<float> weights;
  EXPECT_EQ(AppendMaps(reply, {1, 1, 1}, weights).code(), absl::StatusCode::kInternal);
  reply.weights = Tensor{{1, 1, 2, 3}, std::vector<float>(6)};
  for (const Shape& wanted : {Shape{2, 2, 3}, Shape{1, 3, 3}, Shape{1, 2, 4}}) {
    EXPECT_EQ(AppendMaps(reply, wanted, weights).code(), absl::StatusCode::kInternal);
  }
  EXPECT_EQ(AppendStatistic(reply, 1, 0, weights).code(), absl::StatusCode::kInternal);
  EXPECT_THAT(weights, IsEmpty());
}

TEST(HeatmapMapsTest, AStatisticIsTakenOfEachHead) {
  AttendReply reply;
  reply.weights = Tensor{{1, 2, 6}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}};
  std::vector<float> values;
  EXPECT_TRUE(AppendStatistic(reply, 2, 4, values).ok());
  EXPECT_THAT(values, ElementsAre(4, 10));
}

}  // namespace
}  // namespace headlight::client
