// SPDX-License-Identifier: Apache-2.0
//
// Projected rows become what attention computes on: normed, turned to their positions (RoPE) and rounded.
// Each row is worked on by itself, so its bits do not depend on what else is in a batch.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_ROTATE_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_ROTATE_H_

#include <cstdint>

#include "core/attention/rope_table.h"
#include "core/tensor/bf16.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// An RMS norm of a head's rows.
struct HeadNorm {
  const float* gain = nullptr;  // [in.cols], 0 beyond the head's width; null: no norm
  const float* factors =
      nullptr;  // what each row is multiplied by; null: 1 / sqrt(mean(x^2) + eps) of the row
  double eps = 0.0;
  int64_t width = 0;
};

// out = rotated(normed(in)), row by row. `in` itself is normed and rotated; out may be `in` where both are
// f32 and shares no memory with it otherwise. Without either it converts or copies. in.cols is a multiple of
// kLanes.
void FinishRows(MutableMatrixView in, const HeadNorm& norm, const Rotation& rotation,
                BasicMatrixView<float> out);
void FinishRows(MutableMatrixView in, const HeadNorm& norm, const Rotation& rotation,
                BasicMatrixView<Bf16> out);

// sums[r] += the sum of the squares of row r.
void AddSquares(MatrixView rows, double* sums);

// Rows of which a number is NaN or infinite become zeros; bit r of what is returned says so of row r. At most
// 64 rows, one after the other (stride == cols); cols is a multiple of kLanes.
uint64_t ClearRowsNotFinite(MutableMatrixView rows);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_ROTATE_H_
