// SPDX-License-Identifier: Apache-2.0
#include "client/half.h"

#include <bit>

namespace headlight::client {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000;

// The upper bits of `bits`, less the lowest `dropped` ones, which round it to nearest, ties to even.
uint32_t RoundOff(uint32_t bits, int dropped) {
  const uint32_t odd = (bits >> dropped) & 1;
  return (bits + (1u << (dropped - 1)) - 1 + odd) >> dropped;
}

}  // namespace

float HalfToFloat(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide_exponent =
      exponent == 0x1fu ? 0xffu : exponent + (127 - 15);  // infinity and NaN stay so
  return std::bit_cast<float>(sign | wide_exponent << 23 | mantissa << 13);
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0x7c00;  // infinity
  if (magnitude > kInfinityBits) {
    half = 0x7e00 | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude < (127u - 14) << 23) {
    // Subnormal: a whole number of 2^-24, which is the unit in the last place of 1/2.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  } else if (magnitude < (127u + 16) << 23) {
    half = RoundOff(magnitude - ((127u - 15) << 23), 13);  // a carry may lead to infinity, as it should
  }
  return static_cast<uint16_t>(sign | half);
}

float Bf16ToFloat(uint16_t bf16) { return std::bit_cast<float>(uint32_t{bf16} << 16); }

uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > kInfinityBits) return static_cast<uint16_t>(bits >> 16 | 0x0040);
  return static_cast<uint16_t>(RoundOff(bits, 16));
}

}  // namespace headlight::client
