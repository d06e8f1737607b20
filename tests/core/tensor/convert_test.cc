// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/runtime/compute_arena.h"

namespace headlight {
namespace {

constexpr int kNumHalves = 1 << 16;

// A 16-bit format, decoded and encoded by arithmetic on whole numbers.
struct Format {
  DType dtype;
  int mantissa_bits;
  int bias;

  int max_exponent() const { return (0x7fff >> mantissa_bits); }
  bool IsNan(uint16_t half) const { return (half & 0x7fff) > (max_exponent() << mantissa_bits); }

  double Value(uint16_t half) const {
    const int exponent = (half & 0x7fff) >> mantissa_bits;
    const int mantissa = half & ((1 << mantissa_bits) - 1);
    double value = 0;
    if (exponent == max_exponent()) {
      value =
          mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    } else if (exponent == 0) {
      value = std::ldexp(mantissa, 1 - bias - mantissa_bits);
    } else {
      value = std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    }
    return (half & 0x8000) != 0 ? -value : value;
  }

  // The nearest value, the even one of two; `value` is a number or infinite. Infinity takes part in the
  // rounding as the power of two that would follow the largest number.
  uint16_t Nearest(float value) const {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(static_cast<double>(value));
    const int largest = (max_exponent() << mantissa_bits) - 1;
    const double beyond = std::ldexp(1.0, max_exponent() - bias);
    if (magnitude >= beyond) return sign | (largest + 1);
    int low = 0;
    for (int step = 1 << 14; step > 0; step /= 2) {  // the last one that is not above
      if (low + step <= largest && Value(low + step) <= magnitude) low += step;
    }
    const double above = low == largest ? beyond : Value(low + 1);
    const double to_low = magnitude - Value(low);
    const double to_above = above - magnitude;
    const bool up = to_above < to_low || (to_above == to_low && low % 2 == 1);
    return sign | (low + (up ? 1 : 0));
  }
};

constexpr Format kFormats[] = {{DType::kF16, 10, 15}, {DType::kBf16, 7, 127}};

std::vector<uint16_t> AllHalves() {
  std::vector<uint16_t> halves(kNumHalves);
  for (int i = 0; i < kNumHalves; ++i) halves[i] = static_cast<uint16_t>(i);
  return halves;
}

std::vector<float> Widened(DType dtype, const std::vector<uint16_t>& halves) {
  std::vector<float> floats(halves.size());
  ConvertToF32(dtype, halves.data(), static_cast<int64_t>(halves.size()), floats.data());
  return floats;
}

std::vector<uint16_t> Narrowed(DType dtype, const std::vector<float>& floats) {
  std::vector<uint16_t> halves(floats.size());
  ConvertFromF32(floats.data(), static_cast<int64_t>(floats.size()), dtype, halves.data());
  return halves;
}

void ExpectNearest(const Format& format, const std::vector<float>& floats) {
  const std::vector<uint16_t> got = Narrowed(format.dtype, floats);
  for (size_t i = 0; i < floats.size(); ++i) {
    if (std::isnan(floats[i])) {
      ASSERT_TRUE(format.IsNan(got[i])) << std::hex << std::bit_cast<uint32_t>(floats[i]);
      ASSERT_EQ(got[i] >> 15, std::signbit(floats[i]) ? 1 : 0);
    } else {
      ASSERT_EQ(got[i], format.Nearest(floats[i])) << Name(format.dtype) << " of " << floats[i];
    }
  }
}

TEST(ConvertTest, EveryHalfBecomesItsValue) {
  for (const Format& format : kFormats) {
    const std::vector<float> floats = Widened(format.dtype, AllHalves());
    for (int i = 0; i < kNumHalves; ++i) {
      const double wanted = format.Value(i);
      if (std::isnan(wanted)) {
        ASSERT_TRUE(std::isnan(floats[i])) << i;
      } else {
        ASSERT_EQ(static_cast<double>(floats[i]), wanted) << i;
      }
      ASSERT_EQ(std::signbit(floats[i]), i >= 0x8000) << i;
    }
  }
}

TEST(ConvertTest, EveryHalfSurvivesTheRoundTripNanPayloadsIncluded) {
  for (const Format& format : kFormats) {
    const std::vector<uint16_t> back = Narrowed(format.dtype, Widened(format.dtype, AllHalves()));
    const uint16_t quiet = static_cast<uint16_t>(1 << (format.mantissa_bits - 1));
    for (int i = 0; i < kNumHalves; ++i) {
      ASSERT_EQ(back[i], format.IsNan(i) ? i | quiet : i) << Name(format.dtype);
    }
  }
}

// Between every two neighbours: the middle, and the floats before and after it.
TEST(ConvertTest, RoundsToNearestAndTiesToEven) {
  for (const Format& format : kFormats) {
    const int largest = (format.max_exponent() << format.mantissa_bits) - 1;
    std::vector<float> floats;
    for (int i = 0; i <= largest; ++i) {
      const double above =
          i == largest ? std::ldexp(1.0, format.max_exponent() - format.bias) : format.Value(i + 1);
      const float middle = static_cast<float>(format.Value(i) / 2 + above / 2);
      for (float value : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, INFINITY)}) {
        floats.push_back(value);
        floats.push_back(-value);
      }
    }
    ExpectNearest(format, floats);
  }
}

TEST(ConvertTest, TheEndsOfTheRange) {
  const float largest = std::numeric_limits<float>::max();
  for (const Format& format : kFormats) {
    ExpectNearest(format, {0.0f, -0.0f, INFINITY, -INFINITY, largest, -largest, NAN, -NAN, 65504.0f,
                           65519.996f, 65520.0f, 65536.0f, std::numeric_limits<float>::min(),
                           std::numeric_limits<float>::denorm_min(), 0x1p-24f, 0x1p-25f, 0x1.000002p-25f});
  }
  EXPECT_EQ(Narrowed(DType::kF16, {65519.996f, 65520.0f, -1e30f}),
            (std::vector<uint16_t>{0x7bff, 0x7c00, 0xfc00}));
}

TEST(ConvertTest, ANanWhoseKeptBitsAreZeroStaysOne) {
  const float signalling = std::bit_cast<float>(0x7f800001u);
  for (const Format& format : kFormats) {
    EXPECT_TRUE(format.IsNan(Narrowed(format.dtype, {signalling})[0])) << Name(format.dtype);
  }
}

TEST(ConvertTest, RandomBitsAreRoundedLikeEverythingElse) {
  std::mt19937 twister(1);
  std::vector<float> floats(200'000);
  for (float& value : floats) value = std::bit_cast<float>(static_cast<uint32_t>(twister()));
  for (const Format& format : kFormats) ExpectNearest(format, floats);
}

// Threads that compute flush denormals; tensors must not change for it.
TEST(ConvertTest, FlushedDenormalsMakeNoDifference) {
  const std::vector<uint16_t> halves = AllHalves();
  std::vector<float> tiny;
  for (uint32_t bits = 0; bits < 0x34000000; bits += 4099) tiny.push_back(std::bit_cast<float>(bits));
  ComputeArena arena(1);
  for (const Format& format : kFormats) {
    std::vector<float> floats;
    std::vector<uint16_t> narrow;
    arena.ForEach(1, [&](int64_t, int) {
      floats = Widened(format.dtype, halves);
      narrow = Narrowed(format.dtype, tiny);
    });
    EXPECT_EQ(std::memcmp(floats.data(), Widened(format.dtype, halves).data(), floats.size() * sizeof(float)),
              0);
    EXPECT_EQ(narrow, Narrowed(format.dtype, tiny));
  }
}

TEST(ConvertTest, AnyLengthAndAnyAlignmentTouchesNothingElse) {
  constexpr uint8_t kUntouched = 0xa5;
  std::vector<float> floats(70);
  for (size_t i = 0; i < floats.size(); ++i) floats[i] = static_cast<float>(i) - 30.5f;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (int64_t n = 0; n <= 70; ++n) {
      for (const size_t shift : {0, 1, 3}) {
        const size_t bytes = static_cast<size_t>(n * SizeOf(dtype));
        std::vector<uint8_t> packed(shift + bytes + 1, kUntouched);
        ConvertFromF32(floats.data(), n, dtype, packed.data() + shift);
        for (size_t i = 0; i < shift; ++i) ASSERT_EQ(packed[i], kUntouched);
        ASSERT_EQ(packed.back(), kUntouched);
        std::vector<float> back(n + 1, 99.0f);
        ConvertToF32(dtype, packed.data() + shift, n, back.data());
        for (int64_t i = 0; i < n; ++i) ASSERT_EQ(back[i], floats[i]);  // all are short enough to be exact
        ASSERT_EQ(back[n], 99.0f);
      }
    }
  }
}

}  // namespace
}  // namespace headlight
