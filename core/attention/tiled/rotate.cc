// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/rotate.h"

#include <algorithm>
#include <cmath>

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/tiled/rotate.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

// Turns the leading dimensions of one row.
HWY_INLINE void RotateRow(const Rotation& rotation, const float* cos, const float* sin, float* row) {
  const int64_t n = rotation.num_pairs;
  if (rotation.interleaved) {
    for (int64_t i = 0; i < n; ++i) {
      const float a = row[2 * i], b = row[2 * i + 1];
      row[2 * i] = a * cos[i] - b * sin[i];
      row[2 * i + 1] = a * sin[i] + b * cos[i];
    }
    return;
  }
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    const V c = hn::LoadU(kFloats, cos + i), s = hn::LoadU(kFloats, sin + i);
    const V a = hn::LoadU(kFloats, row + i), b = hn::LoadU(kFloats, row + n + i);
    hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), kFloats, row + i);
    hn::StoreU(hn::Add(hn::Mul(a, s), hn::Mul(b, c)), kFloats, row + n + i);
  }
  for (; i < n; ++i) {
    const float a = row[i], b = row[n + i];
    row[i] = a * cos[i] - b * sin[i];
    row[n + i] = a * sin[i] + b * cos[i];
  }
}

// The columns are as many as the head's, rounded up to kLanes, and zeros beyond.
HWY_INLINE double SquaresOf(const float* row, int64_t cols) {
  Lanes sum;
  for (V& part : sum) part = hn::Zero(kFloats);
  for (int64_t col = 0; col < cols; col += kLanes) {
#pragma GCC unroll 4
    for (int64_t p = 0; p < kParts; ++p) {
      const V x = hn::LoadU(kFloats, row + col + p * kStep);
      sum[p] = hn::MulAdd(x, x, sum[p]);
    }
  }
  return static_cast<double>(SumOf(sum));
}

HWY_INLINE void NormRow(const HeadNorm& norm, int64_t r, int64_t cols, float* row) {
  float factor;
  if (norm.factors != nullptr) {
    factor = norm.factors[r];
  } else {
    factor = static_cast<float>(1.0 /
                                std::sqrt(SquaresOf(row, cols) / static_cast<double>(norm.width) + norm.eps));
  }
  const V f = hn::Set(kFloats, factor);
  for (int64_t col = 0; col < cols; col += kStep) {
    const V x = hn::Mul(hn::LoadU(kFloats, row + col), f);
    hn::StoreU(hn::Mul(x, hn::LoadU(kFloats, norm.gain + col)), kFloats, row + col);
  }
}

void AddSquaresOfRows(MatrixView rows, double* sums) {
  for (int64_t r = 0; r < rows.rows; ++r) sums[r] += SquaresOf(rows.Row(r), rows.cols);
}

template <typename T>
HWY_INLINE void FinishRowsAs(MutableMatrixView in, const HeadNorm& norm, const Rotation& rotation,
                             BasicMatrixView<T> out) {
  for (int64_t r = 0; r < in.rows; ++r) {
    float* row = in.Row(r);
    if (norm.gain != nullptr) NormRow(norm, r, in.cols, row);
    if (rotation.num_pairs > 0) {
      RotateRow(rotation, rotation.cos + r * rotation.num_pairs, rotation.sin + r * rotation.num_pairs, row);
    }
    if (static_cast<const void*>(out.Row(r)) == row) continue;  // it is there
    for (int64_t col = 0; col < in.cols; col += kStep) {
      StoreAs(hn::LoadU(kFloats, row + col), out.Row(r) + col);
    }
  }
}

void FinishRowsF32(MutableMatrixView in, const HeadNorm& norm, const Rotation& rotation,
                   BasicMatrixView<float> out) {
  FinishRowsAs(in, norm, rotation, out);
}

void FinishRowsBf16(MutableMatrixView in, const HeadNorm& norm, const Rotation& rotation,
                    BasicMatrixView<Bf16> out) {
  FinishRowsAs(in, norm, rotation, out);
}

uint64_t ClearNotFinite(MutableMatrixView rows) {
  if (AreFinite(rows.data, rows.rows * rows.cols)) [[likely]]
    return 0;
  uint64_t cleared = 0;
  for (int64_t r = 0; r < rows.rows; ++r) {
    if (AreFinite(rows.Row(r), rows.cols)) continue;
    std::fill_n(rows.Row(r), rows.cols, 0.0f);
    cleared |= uint64_t{1} << r;
  }
  return cleared;
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(FinishRowsF32);
HWY_EXPORT(FinishRowsBf16);
HWY_EXPORT(AddSquaresOfRows);
HWY_EXPORT(ClearNotFinite);

void FinishRows(MutableMatrixView in, const HeadNorm& norm, const Rotation& rotation,
                BasicMatrixView<float> out) {
  HWY_DYNAMIC_DISPATCH(FinishRowsF32)(in, norm, rotation, out);
}

void FinishRows(MutableMatrixView in, const HeadNorm& norm, const Rotation& rotation,
                BasicMatrixView<Bf16> out) {
  HWY_DYNAMIC_DISPATCH(FinishRowsBf16)(in, norm, rotation, out);
}

void AddSquares(MatrixView rows, double* sums) { HWY_DYNAMIC_DISPATCH(AddSquaresOfRows)(rows, sums); }

uint64_t ClearRowsNotFinite(MutableMatrixView rows) { return HWY_DYNAMIC_DISPATCH(ClearNotFinite)(rows); }

}  // namespace headlight
#endif  // HWY_ONCE
