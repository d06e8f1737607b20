// SPDX-License-Identifier: Apache-2.0
//
// Between f32, in which everything is computed, and the narrower element types that tensors may travel in.
// Written once with Highway, chosen at run time; the results are the same bits on every CPU and under every
// setting of denormals.
#ifndef HEADLIGHT_CORE_TENSOR_CONVERT_H_
#define HEADLIGHT_CORE_TENSOR_CONVERT_H_

#include <cstdint>

#include "core/tensor/dtype.h"

namespace headlight {

// out[i] = in[i] for `n` elements of `dtype`, which is kF32, kF16 or kBf16. Exact; a NaN keeps its payload.
// `in` needs no alignment and does not overlap `out`.
void ConvertToF32(DType dtype, const void* in, int64_t n, float* out);

// The reverse, rounded to nearest, ties to even. Beyond the largest finite number is infinity; NaN stays NaN
// (quiet); what is too small becomes a denormal or zero, signs kept. `out` needs no alignment and does not
// overlap `in`.
void ConvertFromF32(const float* in, int64_t n, DType dtype, void* out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_TENSOR_CONVERT_H_
