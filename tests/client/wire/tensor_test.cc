// SPDX-License-Identifier: Apache-2.0
#include "client/tensor.h"

#include <gtest/gtest.h>

#include <limits>

namespace headlight::client {
namespace {

TEST(NumElementsTest, IsTheProductOfTheDimensions) {
  EXPECT_EQ(NumElements(Shape{2, 3, 4}), 24);
  EXPECT_EQ(NumElements(Shape{}), 1);
  EXPECT_EQ(NumElements(Shape{5, 0, 7}), 0);
}

TEST(NumElementsTest, IsNothingForNegativeDimensionsAndOverflow) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(NumElements(Shape{2, -1}), std::nullopt);
  EXPECT_EQ(NumElements(Shape{kMax, 2}), std::nullopt);
  EXPECT_EQ(NumElements(Shape{0, -1}), std::nullopt);
  EXPECT_EQ(NumElements(Shape{kMax, 1}), kMax);
}

TEST(ToStringTest, ListsTheDimensions) {
  EXPECT_EQ(ToString(Shape{2, 16, 768}), "[2, 16, 768]");
  EXPECT_EQ(ToString(Shape{}), "[]");
}

TEST(MaskTest, ViewKeepsTheKind) {
  const Mask allowed{.shape = {2}, .values = std::vector<uint8_t>{1, 0}};
  const Mask added{.shape = {2}, .values = std::vector<float>{0, -1}};
  EXPECT_EQ(std::get<std::span<const uint8_t>>(allowed.View().values)[0], 1);
  EXPECT_EQ(std::get<std::span<const float>>(added.View().values)[1], -1);
}

}  // namespace
}  // namespace headlight::client
