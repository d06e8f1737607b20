// SPDX-License-Identifier: Apache-2.0
#include "client/picture/attention_maps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/client/pages/sample_pages.h"
#include "tests/client/picture/xml_checker.h"

namespace headlight::client {
namespace {

using ::headlight::testing::Count;
using ::headlight::testing::SampleMaps;
using ::headlight::testing::XmlError;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// One layer, one head, two queries, three keys.
AttentionMaps SmallMaps() {
  return {.title = "title",
          .subtitle = "subtitle",
          .layers = {4},
          .heads = {7},
          .first_query = 1,
          .query_labels = {"b<", "c"},
          .key_labels = {"a", "b<", "c"},
          .weights = {0.5f, 0.25f, 0.25f, 0.0f, 0.125f, 0.875f}};
}

TEST(AttentionMapsTest, SvgHasACellForEachWeight) {
  const AttentionMaps maps = SampleMaps(2, 3, 10);
  const std::string svg = AttentionMapsSvg(maps, ScaleKind::kLinear);
  EXPECT_THAT(XmlError(svg), IsEmpty());
  EXPECT_EQ(Count(svg, "\nquery "), maps.num_cells());
  EXPECT_EQ(maps.num_cells(), 2 * 3 * 10 * 10);
  for (const char* name :
       {">head 0<", ">head 2<", ">layer 0<", ">layer 1<", ">query<", ">key<", "attention weight"}) {
    EXPECT_THAT(svg, HasSubstr(name));
  }
}

TEST(AttentionMapsTest, ValuesLabelsAndPlacesAreInTheHoverTexts) {
  const std::string svg = AttentionMapsSvg(SmallMaps(), ScaleKind::kLinear);
  EXPECT_THAT(XmlError(svg), IsEmpty());
  EXPECT_THAT(svg, HasSubstr("<title>0.125\nquery 2 c\nkey 1 b&lt;\nlayer 4, head 7</title>"));
}

TEST(AttentionMapsTest, NumbersAreNotSaidTwice) {
  AttentionMaps maps = SmallMaps();
  maps.query_labels = {"1", "2"};
  EXPECT_THAT(AttentionMapsSvg(maps, ScaleKind::kLinear), HasSubstr("<title>0.5\nquery 1\nkey 0 a\n"));
}

TEST(AttentionMapsTest, CellsAreCalledByTheirLabelsAlone) {
  AttentionMaps maps = SmallMaps();
  maps.query_labels = {"1-2", "3"};
  maps.are_cells = true;
  EXPECT_THAT(AttentionMapsSvg(maps, ScaleKind::kLinear),
              AllOf(HasSubstr("<title>0.5\nquery 1-2\nkey a\n"), HasSubstr("mean attention weight")));
  EXPECT_THAT(AttentionMapsPage(maps, ScaleKind::kLinear),
              AllOf(HasSubstr("\"are_cells\":true"), HasSubstr("\"mean attention weight\"")));
}

TEST(AttentionMapsTest, TheLargestWeightIsTheDarkest) {
  const AttentionMaps maps = SmallMaps();
  EXPECT_EQ(ScaleOf(maps, ScaleKind::kLinear).max(), 0.875);
  const std::string svg = AttentionMapsSvg(maps, ScaleKind::kLinear);
  EXPECT_THAT(svg, HasSubstr("fill=\"" + ToHex(ColorOf(1)) + "\"><title>0.875"));
  EXPECT_THAT(svg, HasSubstr("fill=\"" + ToHex(ColorOf(0)) + "\"><title>0\n"));
}

TEST(AttentionMapsTest, WhatIsNoNumberHasNoPartInTheScale) {
  AttentionMaps maps = SmallMaps();
  maps.weights = {NAN, INFINITY, 0.25f, 0, 0, 0};
  EXPECT_EQ(ScaleOf(maps, ScaleKind::kLinear).max(), 0.25);
  EXPECT_THAT(AttentionMapsSvg(maps, ScaleKind::kLinear), HasSubstr("<title>nan\n"));
  maps.weights.assign(6, 0.0f);  // every key masked
  EXPECT_EQ(ScaleOf(maps, ScaleKind::kLog).max(), 1);
  EXPECT_THAT(XmlError(AttentionMapsSvg(maps, ScaleKind::kLog)), IsEmpty());
}

TEST(AttentionMapsTest, ThePageHoldsTheWeightsAsHalves) {
  AttentionMaps maps = SmallMaps();
  maps.weights = {0.5f, 0.25f, 1.0f, 0, 0, 0};
  // binary16, little-endian: 00 38, 00 34, 00 3c, zeros.
  EXPECT_THAT(AttentionMapsPage(maps, ScaleKind::kLog),
              ::testing::AllOf(HasSubstr("\"weights\":\"ADgANAA8AAAAAAAA\""), HasSubstr("\"scale\":\"log\""),
                               HasSubstr("\"layers\":[4],\"heads\":[7]"), HasSubstr("\"b\\u003c\"")));
}

}  // namespace
}  // namespace headlight::client
