// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace headlight {
namespace {

using ::testing::Eq;
using ::testing::Optional;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST(ShapeTest, MultipliesItsDimensions) {
  EXPECT_THAT(NumElements(Shape{2, 16, 768}), Optional(24576));
  EXPECT_THAT(NumElements(Shape{7}), Optional(7));
}

TEST(ShapeTest, AScalarHasOneElement) { EXPECT_THAT(NumElements(Shape{}), Optional(1)); }

TEST(ShapeTest, AZeroDimensionLeavesNoElement) { EXPECT_THAT(NumElements(Shape{5, 0, 3}), Optional(0)); }

TEST(ShapeTest, RefusesNegativeDimensions) {
  EXPECT_THAT(NumElements(Shape{-1}), Eq(std::nullopt));
  EXPECT_THAT(NumElements(Shape{-2, -3}), Eq(std::nullopt)) << "their product would be positive";
}

TEST(ShapeTest, RefusesProductsBeyondInt64) {
  EXPECT_THAT(NumElements(Shape{kMax, 1}), Optional(kMax));
  EXPECT_THAT(NumElements(Shape{kMax, 2}), Eq(std::nullopt));
  EXPECT_THAT(NumElements(Shape{int64_t{1} << 32, int64_t{1} << 32}), Eq(std::nullopt))
      << "wraps around to 0";
}

TEST(ShapeTest, PrintsAsAList) {
  EXPECT_EQ(ToString(Shape{2, 16, 768}), "[2, 16, 768]");
  EXPECT_EQ(ToString(Shape{}), "[]");
}

}  // namespace
}  // namespace headlight
