// SPDX-License-Identifier: Apache-2.0
//
// The element type of bf16 operands: the upper half of an IEEE 754 binary32.
#ifndef HEADLIGHT_CORE_TENSOR_BF16_H_
#define HEADLIGHT_CORE_TENSOR_BF16_H_

#include <bit>
#include <cstdint>
#include <type_traits>

namespace headlight {

struct Bf16 {
  uint16_t bits = 0;
};

// Rounds to nearest, ties to even; NaN stays NaN.
inline Bf16 ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (value != value) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

inline float ToFloat(Bf16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }

// The same for operands that may be of either type.
inline float ToFloat(float value) { return value; }

template <typename T>
T FromFloat(float value) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return ToBf16(value);
  } else {
    return value;
  }
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_TENSOR_BF16_H_
