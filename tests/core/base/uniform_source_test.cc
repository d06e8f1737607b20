// SPDX-License-Identifier: Apache-2.0
#include "core/base/uniform_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace headlight {
namespace {

TEST(UniformSourceTest, IsTheTwistersTop24BitsTimesTheBound) {
  UniformSource source(5);
  std::mt19937_64 twister(5);
  for (const float value : source.Draw(1000, 0.375f)) {
    const auto top_bits = static_cast<double>(twister() >> 40);
    EXPECT_EQ(value, static_cast<float>((top_bits * 0x1p-23 - 1.0) * 0.375));
  }
}

TEST(UniformSourceTest, StaysBelowItsBoundAndReachesBothSides) {
  UniformSource source(1);
  const std::vector<float> values = source.Draw(10000, 3.0f);
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  EXPECT_GE(*least, -3.0f);
  EXPECT_LT(*most, 3.0f);
  EXPECT_LT(*least, -2.9f);
  EXPECT_GT(*most, 2.9f);
}

TEST(UniformSourceTest, GoesOnFromDrawToDraw) {
  UniformSource once(7), twice(7), other(8);
  const std::vector<float> all = once.Draw(10, 1.0f);
  std::vector<float> parts = twice.Draw(4, 1.0f);
  const std::vector<float> rest = twice.Draw(6, 1.0f);
  parts.insert(parts.end(), rest.begin(), rest.end());
  EXPECT_EQ(parts, all);
  EXPECT_NE(other.Draw(10, 1.0f), all);
}

TEST(XavierBoundTest, IsTheRootOfSixOverInAndOut) {
  EXPECT_EQ(XavierBound(2, 4), 1.0f);
  EXPECT_EQ(XavierBound(768, 768), static_cast<float>(std::sqrt(6.0 / 1536.0)));
}

}  // namespace
}  // namespace headlight
