// SPDX-License-Identifier: Apache-2.0
//
// From rows of numbers to the layouts that the products read: conversion of activations, biases, rotary
// positions, transposed keys, interleaved values. Each row is worked on by itself, so results do not depend
// on what else is in a batch. T is float or Bf16.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_PACKING_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_PACKING_H_

#include <cstdint>

#include "core/simd/targets.h"
#include "core/tensor/bf16.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// Cosines and sines of a row's rotary angles; null where there is no RoPE. Row r of the rows that it comes
// with reads cos + r * num_pairs and sin + r * num_pairs.
struct Rotation {
  const float* cos = nullptr;
  const float* sin = nullptr;
  int64_t num_pairs = 0;     // of turning dimensions, the leading ones
  bool interleaved = false;  // pairs are (2i, 2i + 1); else (i, i + num_pairs)
};

// out = rotated(in), row by row. `in` itself is rotated; out may be `in` where both are f32 and shares no
// memory with it otherwise. Without a rotation it converts or copies. in.cols is a multiple of kLanes.
void FinishRows(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<float> out);
void FinishRows(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<Bf16> out);

// Rows of keys into columns, 32-bit words at a time (for bf16: pairs of elements): word w of row r goes to
// panel[w * panel_cols + r]; columns from `rows` to panel_cols become zero. `words` and panel_cols are
// multiples of 16; row_stride counts words.
void TransposeWords(const void* in, int64_t rows, int64_t words, int64_t row_stride, void* panel,
                    int64_t panel_cols);

// Interleaves rows 2i and 2i + 1 element by element: out [rows / 2, cols, 2]. cols is a multiple of 32, rows
// are even.
void InterleavePairs(const Bf16* in, int64_t rows, int64_t cols, Bf16* out);

// out[r] = in[r] rounded, zeros from in.cols up to out_stride. No alignment needed.
void ConvertRowsToBf16(MatrixView in, Bf16* out, int64_t out_stride);

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

// Each row becomes `row` [rows.cols].
void FillRows(const float* row, MutableMatrixView rows);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_PACKING_H_
