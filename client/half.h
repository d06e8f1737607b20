// SPDX-License-Identifier: Apache-2.0
//
// The 16-bit element types that tensors may travel in, one number at a time.
#ifndef HEADLIGHT_CLIENT_HALF_H_
#define HEADLIGHT_CLIENT_HALF_H_

#include <cstdint>

namespace headlight::client {

// IEEE 754 binary16. To f32 it is exact; from f32 it is rounded to nearest, ties to even: beyond 65504 is
// infinity, NaN stays NaN.
float HalfToFloat(uint16_t half);
uint16_t FloatToHalf(float value);

// bfloat16, the upper half of a binary32; as above.
float Bf16ToFloat(uint16_t bf16);
uint16_t FloatToBf16(float value);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_HALF_H_
