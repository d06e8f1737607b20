// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/bf16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace headlight {
namespace {

TEST(Bf16Test, EveryNumberComesBack) {
  for (int bits = 0; bits < 1 << 16; ++bits) {
    const Bf16 half = {static_cast<uint16_t>(bits)};
    const float value = ToFloat(half);
    if (std::isnan(value)) {
      EXPECT_EQ(ToBf16(value).bits, bits | 0x40) << "NaN, made quiet";
    } else {
      EXPECT_EQ(ToBf16(value).bits, bits);
    }
  }
}

TEST(Bf16Test, RoundsToNearestAndTiesToEven) {
  EXPECT_EQ(ToFloat(ToBf16(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(ToFloat(ToBf16(1.0f + 3 * 0x1p-8f)), 1.0f + 0x1p-6f);
  EXPECT_EQ(ToFloat(ToBf16(std::nextafter(1.0f + 0x1p-8f, 2.0f))), 1.0f + 0x1p-7f);
  EXPECT_EQ(ToFloat(ToBf16(std::nextafter(1.0f + 3 * 0x1p-8f, 0.0f))), 1.0f + 0x1p-7f);
  EXPECT_EQ(ToFloat(ToBf16(-1.0f - 0x1p-8f)), -1.0f);
}

TEST(Bf16Test, BeyondTheLargestIsInfinity) {
  constexpr float kMax = std::numeric_limits<float>::max();
  EXPECT_EQ(ToFloat(ToBf16(kMax)), std::numeric_limits<float>::infinity());
  EXPECT_EQ(ToFloat(ToBf16(-kMax)), -std::numeric_limits<float>::infinity());
}

TEST(Bf16Test, ANanWhoseUpperHalfIsInfinityStaysOne) {
  EXPECT_TRUE(std::isnan(ToFloat(ToBf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace headlight
