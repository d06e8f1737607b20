// SPDX-License-Identifier: Apache-2.0
#include "core/model/pooling.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace headlight {
namespace {

// Columns whose sums are in work at once, on the stack.
constexpr int64_t kCols = 64;

void MeanOfRows(MatrixView hidden, int64_t first_row, int64_t end_row, float* out) {
  const auto count = static_cast<double>(end_row - first_row);
  for (int64_t first_col = 0; first_col < hidden.cols; first_col += kCols) {
    const int64_t cols = std::min(kCols, hidden.cols - first_col);
    double sums[kCols] = {};
    for (int64_t row = first_row; row < end_row; ++row) {
      const float* in = hidden.Row(row) + first_col;
      for (int64_t col = 0; col < cols; ++col) sums[col] += static_cast<double>(in[col]);
    }
    for (int64_t col = 0; col < cols; ++col) out[first_col + col] = static_cast<float>(sums[col] / count);
  }
}

void DivideByNorm(float* row, int64_t cols) {
  double squares = 0;
  for (int64_t col = 0; col < cols; ++col) squares += static_cast<double>(row[col]) * row[col];
  if (squares == 0) return;
  const double factor = 1.0 / std::sqrt(squares);
  for (int64_t col = 0; col < cols; ++col) row[col] = static_cast<float>(row[col] * factor);
}

}  // namespace

void PoolSequences(MatrixView hidden, std::span<const int64_t> cu_lens, Pooling pooling, bool normalize,
                   MutableMatrixView out) {
  for (int64_t i = 0; i + 1 < std::ssize(cu_lens); ++i) {
    float* const row = out.Row(i);
    if (pooling == Pooling::kMean) {
      MeanOfRows(hidden, cu_lens[i], cu_lens[i + 1], row);
    } else {
      std::copy_n(hidden.Row(cu_lens[i]), hidden.cols, row);
    }
    if (normalize) DivideByNorm(row, hidden.cols);
  }
}

}  // namespace headlight
