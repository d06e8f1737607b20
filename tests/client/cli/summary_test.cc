// SPDX-License-Identifier: Apache-2.0
#include "client/cli/summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace headlight::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// 2 sequences and 2 heads; the statistics are 0.5, 1.5, ... in order.
Tensor Statistics() {
  Tensor tensor{.shape = {2, 2, 6}};
  for (int i = 0; i < 24; ++i) tensor.values.push_back(static_cast<float>(i) + 0.5f);
  return tensor;
}

TEST(SummaryTest, JsonNamesEveryStatistic) {
  const auto json = SummaryJson(Statistics(), {.heads = {7, 3}});
  ASSERT_EQ(json.size(), 4u);
  EXPECT_EQ(json[1].dump(),
            R"({"sequence":0,"head":3,"entropy_nats":6.5,"distance_tokens":7.5,"max_weight":8.5,)"
            R"("self_mass":9.5,"first_token_mass":10.5,"effective_support":11.5})");
  EXPECT_EQ(json[2]["sequence"], 1);
  EXPECT_EQ(json[2]["head"], 7);
}

TEST(SummaryTest, WithoutAChoiceHeadsAreCounted) {
  const auto json = SummaryJson(Statistics(), {});
  EXPECT_EQ(json[0]["head"], 0);
  EXPECT_EQ(json[3]["head"], 1);
}

TEST(SummaryTest, TheTableHasARowForEachSequenceAndHead) {
  EXPECT_EQ(SummaryTable(Statistics(), {}),
            "sequence  head  entropy_nats  distance_tokens  max_weight  self_mass  first_token_mass  "
            "effective_support\n"
            "0         0     0.5           1.5              2.5         3.5        4.5               5.5\n"
            "0         1     6.5           7.5              8.5         9.5        10.5              11.5\n"
            "1         0     12.5          13.5             14.5        15.5       16.5              17.5\n"
            "1         1     18.5          19.5             20.5        21.5       22.5              23.5\n");
}

TEST(SummaryTest, LayersThatWereAskedForAreNamed) {
  Tensor of_layers = Statistics();
  of_layers.shape = {1, 2, 2, 6};
  const Reported reported = {.layers = {5, 0}};
  const auto json = SummaryJson(of_layers, reported);
  ASSERT_EQ(json.size(), 4u);
  EXPECT_EQ(json[2]["sequence"], 0);
  EXPECT_EQ(json[2]["layer"], 0);
  EXPECT_EQ(json[2]["head"], 0);
  EXPECT_EQ(json[2]["entropy_nats"], 12.5);
  EXPECT_THAT(SummaryTable(of_layers, reported),
              AllOf(HasSubstr("sequence  layer  head  entropy"), HasSubstr("\n0         5      1     6.5 ")));
  EXPECT_TRUE(SummaryJson(of_layers, {}).empty());
  EXPECT_TRUE(SummaryJson(of_layers, {.layers = {1}}).empty());
}

TEST(SummaryTest, ALongTableIsCut) {
  Tensor tensor{.shape = {5, 10, 6}, .values = std::vector<float>(300, 1.0f)};
  EXPECT_THAT(SummaryTable(tensor, {}), HasSubstr("\n... and 2 more: --json has all of them\n"));
  EXPECT_EQ(SummaryJson(tensor, {}).size(), 50u);
}

TEST(SummaryTest, AnotherShapeHasNoRows) {
  const Tensor odd{.shape = {2, 2, 5}, .values = std::vector<float>(20)};
  EXPECT_TRUE(SummaryJson(odd, {}).empty());
  EXPECT_TRUE(SummaryJson(Statistics(), {.heads = {1}}).empty());
  EXPECT_THAT(SummaryTable(odd, {}), Not(HasSubstr("\n0")));
}

TEST(RangeTest, IsThatOfTheFiniteValues) {
  const std::vector<float> values = {3, -1, INFINITY, 4, NAN, -INFINITY};
  const ValueRange range = RangeOf(values);
  EXPECT_EQ(range.min, -1);
  EXPECT_EQ(range.mean, 2);
  EXPECT_EQ(range.max, 4);
  EXPECT_EQ(range.num_non_finite, 3);
  EXPECT_EQ(RangeOf(std::vector<float>{NAN}).num_non_finite, 1);
  EXPECT_EQ(RangeOf(std::vector<float>{NAN}).mean, 0);
  EXPECT_EQ(RangeOf({}).max, 0);
  EXPECT_EQ(RangeOf(std::vector<float>{-2, -3}).max, -2);
}

// 1 sequence, 2 heads, 2 queries, top 2; the second query of the second head sees nothing.
const Tensor kTopWeights{.shape = {1, 2, 2, 2}, .values = {0.6f, 0.4f, 0.9f, 0.1f, 1, 0, 0, 0}};
const IntTensor kTopKeys{.shape = {1, 2, 2, 2}, .values = {0, 1, 2, 0, 5, -1, -1, -1}};

TEST(TopKTest, JsonHasTheKeysThatThereAre) {
  const auto json = TopKJson(kTopWeights, kTopKeys, {.heads = {7, 3}, .query_begin = 10});
  ASSERT_EQ(json.size(), 3u);
  EXPECT_EQ(json[1]["head"], 7);
  EXPECT_EQ(json[1]["query"], 11);
  EXPECT_EQ(json[1]["keys"], nlohmann::json({2, 0}));
  EXPECT_EQ(json[2]["head"], 3);
  EXPECT_EQ(json[2]["keys"], nlohmann::json({5}));
  EXPECT_EQ(json[2]["weights"], nlohmann::json({1.0}));
}

TEST(TopKTest, TheTableHasARowForEachQueryThatSeesAKey) {
  EXPECT_EQ(TopKTable(kTopWeights, kTopKeys, {}),
            "sequence  head  query  key: weight\n"
            "0         0     0      0: 0.6000  1: 0.4000\n"
            "0         0     1      2: 0.9000  0: 0.1000\n"
            "0         1     0      5: 1.0000\n");
}

TEST(TopKTest, RepliesOfAnotherShapeHaveNoRows) {
  EXPECT_TRUE(TopKJson(Statistics(), kTopKeys, {}).empty());
  EXPECT_TRUE(TopKJson(kTopWeights, kTopKeys, {.heads = {1}}).empty());
}

TEST(TopKTest, LayersThatWereAskedForAreNamed) {
  Tensor weights = kTopWeights;
  IntTensor keys = kTopKeys;
  weights.shape = keys.shape = {1, 2, 1, 2, 2};
  const auto json = TopKJson(weights, keys, {.layers = {4, 2}});
  ASSERT_EQ(json.size(), 3u);
  EXPECT_EQ(json[2].dump(), R"({"sequence":0,"layer":2,"head":0,"query":0,"keys":[5],"weights":[1.0]})");
  EXPECT_THAT(
      TopKTable(weights, keys, {.layers = {4, 2}}),
      HasSubstr("sequence  layer  head  query  key: weight\n0         4      0     0      0: 0.6000"));
}

TEST(TopKTest, LargeTablesShowTheirBeginning) {
  Tensor weights{.shape = {1, 1, 50, 9}, .values = std::vector<float>(450, 0.1f)};
  IntTensor keys{.shape = {1, 1, 50, 9}, .values = std::vector<int32_t>(450, 4)};
  const std::string table = TopKTable(weights, keys, {});
  EXPECT_THAT(table, HasSubstr("0.1000  ...\n"));
  EXPECT_THAT(table, HasSubstr("... and 2 more: --json has all of them\n"));
}

}  // namespace
}  // namespace headlight::client
