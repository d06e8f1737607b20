// SPDX-License-Identifier: Apache-2.0
#include "client/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace headlight::client {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(HalfTest, ValuesAreThoseOfTheStandard) {
  EXPECT_EQ(HalfToFloat(0x3c00), 1.0f);
  EXPECT_EQ(HalfToFloat(0xc000), -2.0f);
  EXPECT_EQ(HalfToFloat(0x7bff), 65504.0f);
  EXPECT_EQ(HalfToFloat(0x0001), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(0x7c00), kInf);
  EXPECT_TRUE(std::signbit(HalfToFloat(0x8000)));
  EXPECT_EQ(Bf16ToFloat(0x3f80), 1.0f);
  EXPECT_EQ(Bf16ToFloat(0xff80), -kInf);
}

TEST(HalfTest, EveryValueSurvivesTheRoundTrip) {
  for (int i = 0; i < 1 << 16; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    if (std::isnan(HalfToFloat(bits))) {
      EXPECT_EQ(FloatToHalf(HalfToFloat(bits)), bits | 0x0200);
    } else {
      EXPECT_EQ(FloatToHalf(HalfToFloat(bits)), bits);
    }
    if (std::isnan(Bf16ToFloat(bits))) {
      EXPECT_EQ(FloatToBf16(Bf16ToFloat(bits)), bits | 0x0040);
    } else {
      EXPECT_EQ(FloatToBf16(Bf16ToFloat(bits)), bits);
    }
  }
}

// Between two neighbours of one sign: their middle goes to the even one, what is beside it to the nearer one.
TEST(HalfTest, RoundsToNearestAndTiesToEven) {
  for (int i = 0; i < 0x7bff; ++i) {
    const float low = HalfToFloat(static_cast<uint16_t>(i));
    const float high = HalfToFloat(static_cast<uint16_t>(i + 1));
    const float middle = (low + high) / 2;
    ASSERT_EQ(FloatToHalf(middle), i + i % 2);
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), i);
    ASSERT_EQ(FloatToHalf(-std::nextafter(middle, kInf)), (i + 1) | 0x8000);
  }
  for (int i = 0; i < 0x7f7f; ++i) {
    const float low = Bf16ToFloat(static_cast<uint16_t>(i));
    const float high = Bf16ToFloat(static_cast<uint16_t>(i + 1));
    const float middle = low / 2 + high / 2;
    ASSERT_EQ(FloatToBf16(middle), i + i % 2);
    ASSERT_EQ(FloatToBf16(std::nextafter(middle, 0.0f)), i);
    ASSERT_EQ(FloatToBf16(-std::nextafter(middle, kInf)), (i + 1) | 0x8000);
  }
}

TEST(HalfTest, WhatIsTooLargeIsInfinite) {
  EXPECT_EQ(FloatToHalf(65519.996f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalf(-1e30f), 0xfc00);
  EXPECT_EQ(FloatToHalf(kInf), 0x7c00);
  EXPECT_EQ(FloatToBf16(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace headlight::client
