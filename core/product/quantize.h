// SPDX-License-Identifier: Apache-2.0
//
// Rows of 16-bit and 8-bit operands, and numbers again out of the products of the latter. Each row is worked on
// by itself, so its bits do not depend on what else is in a batch.
#ifndef HEADLIGHT_CORE_PRODUCT_QUANTIZE_H_
#define HEADLIGHT_CORE_PRODUCT_QUANTIZE_H_

#include <cstdint>

#include "core/tensor/bf16.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// out[r] = in[r] rounded to nearest, ties to even, by the CPU's own instruction where it has one, which takes
// denormals for zeros as its products do. Columns from in.cols up to out_stride become 0.
void RoundRows(MatrixView in, Bf16* out, int64_t out_stride);

// Dynamic quantisation, each row by itself: in[r][c] is about scale[r] * (out[r][c] - zero[r]). The range of
// a row is widened to hold 0. A row that holds no finite number at all, or some NaN or infinity, gets scale
// NaN. Columns from in.cols up to out_stride become 0, which weights of 0 must meet.
void QuantizeRows(MatrixView in, uint8_t* out, int64_t out_stride, float* scale, float* zero);

// What turns sums of products of quantised operands into numbers.
struct QuantizedProduct {
  const float* row_scale = nullptr;
  const float* row_zero = nullptr;
  const float* col_scale = nullptr;
  const float* col_sum = nullptr;
  const float* bias = nullptr;  // of the columns, or null
};

// out[r][c] = row_scale[r] * col_scale[c] * (in[r][c] - row_zero[r] * col_sum[c]) + bias[c].
void Dequantize(const int32_t* in, int64_t in_stride, const QuantizedProduct& product, MutableMatrixView out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_PRODUCT_QUANTIZE_H_
