// SPDX-License-Identifier: Apache-2.0
#include "core/model/row_norm.h"

#include <algorithm>
#include <cmath>

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/model/row_norm.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

// Columns that are summed in f32 before their total is added in double: at most 1024 / kLanes / kSums + log2
// additions meet in one lane, so the sum of a row of any width is good to a few units in the last place.
constexpr int64_t kSumCols = 1024;
constexpr int64_t kSums = 4;  // independent sums, so that additions need not wait for each other

HWY_INLINE V SumOfParts(const Residual& residual, int64_t row, int64_t col, int64_t count) {
  V sum = hn::LoadN(kFloats, residual.x.Row(row) + col, count);
  if (!residual.f.empty()) sum = hn::Add(sum, hn::LoadN(kFloats, residual.f.Row(row) + col, count));
  if (residual.f_bias != nullptr) sum = hn::Add(sum, hn::LoadN(kFloats, residual.f_bias + col, count));
  return sum;
}

HWY_INLINE V SumOfWholeParts(const Residual& residual, int64_t row, int64_t col) {
  V sum = hn::LoadU(kFloats, residual.x.Row(row) + col);
  if (!residual.f.empty()) sum = hn::Add(sum, hn::LoadU(kFloats, residual.f.Row(row) + col));
  if (residual.f_bias != nullptr) sum = hn::Add(sum, hn::LoadU(kFloats, residual.f_bias + col));
  return sum;
}

// The sum over a row of whole(col), a register of its terms, and of rest(col, count) where fewer than kStep
// are left, perhaps none; rest's surplus lanes must be 0.
template <typename Whole, typename Rest>
HWY_INLINE double SumOverRow(int64_t cols, const Whole& whole, const Rest& rest) {
  double total = 0;
  for (int64_t block = 0; block < cols; block += kSumCols) {
    const int64_t end = std::min(block + kSumCols, cols);
    Lanes sums[kSums];
    for (Lanes& lanes : sums) {
      for (V& part : lanes) part = hn::Zero(kFloats);
    }
    int64_t col = block;
    for (; col + kSums * kLanes <= end; col += kSums * kLanes) {
#pragma GCC unroll 4
      for (int64_t i = 0; i < kSums; ++i) {
#pragma GCC unroll 4
        for (int64_t p = 0; p < kParts; ++p) {
          sums[i][p] = hn::Add(sums[i][p], whole(col + i * kLanes + p * kStep));
        }
      }
    }
    for (; col + kLanes <= end; col += kLanes) {
#pragma GCC unroll 4
      for (int64_t p = 0; p < kParts; ++p) sums[0][p] = hn::Add(sums[0][p], whole(col + p * kStep));
    }
    if (col < end) {
#pragma GCC unroll 4
      for (int64_t p = 0; p < kParts; ++p, col += kStep) {
        sums[1][p] = hn::Add(sums[1][p], rest(col, std::clamp<int64_t>(end - col, 0, kStep)));
      }
    }
    Lanes sum;
    for (int64_t p = 0; p < kParts; ++p) {
      sum[p] = hn::Add(hn::Add(sums[0][p], sums[1][p]), hn::Add(sums[2][p], sums[3][p]));
    }
    total += static_cast<double>(SumOf(sum));
  }
  return total;
}

// Writes the row's sum to `out` and returns the total of its elements (LayerNorm) or of their squares.
HWY_INLINE double AddRow(NormKind kind, const Residual& residual, int64_t row, float* out) {
  const bool squares = kind == NormKind::kRmsNorm;
  return SumOverRow(
      residual.x.cols,
      [&](int64_t col) HWY_ATTR {
        const V sum = SumOfWholeParts(residual, row, col);
        hn::StoreU(sum, kFloats, out + col);
        return squares ? hn::Mul(sum, sum) : sum;
      },
      [&](int64_t col, int64_t count) HWY_ATTR {
        const V sum = SumOfParts(residual, row, col, count);
        hn::StoreN(sum, kFloats, out + col, count);
        return squares ? hn::Mul(sum, sum) : sum;
      });
}

HWY_INLINE double SquaredDeviations(const float* row, int64_t cols, float mean) {
  const V m = hn::Set(kFloats, mean);
  return SumOverRow(
      cols,
      [&](int64_t col) HWY_ATTR {
        const V deviation = hn::Sub(hn::LoadU(kFloats, row + col), m);
        return hn::Mul(deviation, deviation);
      },
      [&](int64_t col, int64_t count) HWY_ATTR {
        const V deviation = hn::Sub(hn::LoadN(kFloats, row + col, count), m);
        return hn::IfThenElseZero(hn::FirstN(kFloats, count), hn::Mul(deviation, deviation));
      });
}

// out = (in - mean) * factor * gain + bias
HWY_INLINE void ScaleRow(const RowNorm& norm, const float* in, int64_t cols, float mean, float factor,
                         float* out) {
  const V m = hn::Set(kFloats, mean), f = hn::Set(kFloats, factor);
  const auto scaled = [&](V x, V gain) HWY_ATTR { return hn::Mul(hn::Mul(hn::Sub(x, m), f), gain); };
  int64_t col = 0;
  for (; col + kStep <= cols; col += kStep) {
    V y = scaled(hn::LoadU(kFloats, in + col), hn::LoadU(kFloats, norm.gain + col));
    if (norm.bias != nullptr) y = hn::Add(y, hn::LoadU(kFloats, norm.bias + col));
    hn::StoreU(y, kFloats, out + col);
  }
  if (col == cols) return;
  const int64_t count = cols - col;
  V y = scaled(hn::LoadN(kFloats, in + col, count), hn::LoadN(kFloats, norm.gain + col, count));
  if (norm.bias != nullptr) y = hn::Add(y, hn::LoadN(kFloats, norm.bias + col, count));
  hn::StoreN(y, kFloats, out + col, count);
}

void AddAndNormRows(const RowNorm& norm, const Residual& residual, MutableMatrixView sum,
                    MutableMatrixView out) {
  const int64_t cols = out.cols;
  const auto width = static_cast<double>(cols);
  for (int64_t row = 0; row < out.rows; ++row) {
    float* const added = sum.empty() ? out.Row(row) : sum.Row(row);
    const double total = AddRow(norm.kind, residual, row, added);
    float mean = 0.0f;
    double squares = total;
    if (norm.kind == NormKind::kLayerNorm) {
      mean = static_cast<float>(total / width);
      squares = SquaredDeviations(added, cols, mean);
    }
    const auto factor = static_cast<float>(1.0 / std::sqrt(squares / width + norm.eps));
    ScaleRow(norm, added, cols, mean, factor, out.Row(row));
  }
}

void AddEachRow(const Residual& residual, MutableMatrixView out) {
  for (int64_t row = 0; row < out.rows; ++row) {
    float* const to = out.Row(row);
    int64_t col = 0;
    for (; col + kStep <= out.cols; col += kStep) {
      hn::StoreU(SumOfWholeParts(residual, row, col), kFloats, to + col);
    }
    if (col < out.cols) {
      const int64_t count = out.cols - col;
      hn::StoreN(SumOfParts(residual, row, col, count), kFloats, to + col, count);
    }
  }
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(AddAndNormRows);
HWY_EXPORT(AddEachRow);

void AddAndNorm(const RowNorm& norm, const Residual& residual, MutableMatrixView sum, MutableMatrixView out) {
  HWY_DYNAMIC_DISPATCH(AddAndNormRows)(norm, residual, sum, out);
}

void AddRows(const Residual& residual, MutableMatrixView out) {
  HWY_DYNAMIC_DISPATCH(AddEachRow)(residual, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
