// SPDX-License-Identifier: Apache-2.0
#include "core/product/row_product.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/product/row_product.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

// Columns [col, col + kCount * kStep).
template <int kCount>
HWY_INLINE void ProjectColumns(const float* x, const MatrixView& w, const float* bias, int64_t col,
                               float* out) {
  V sums[kCount];
  for (int i = 0; i < kCount; ++i) sums[i] = hn::LoadU(kFloats, bias + col + i * kStep);
  for (int64_t row = 0; row < w.rows; ++row) {
    const V factor = hn::Set(kFloats, x[row]);
    const float* const from = w.Row(row) + col;
    for (int i = 0; i < kCount; ++i)
      sums[i] = hn::MulAdd(factor, hn::LoadU(kFloats, from + i * kStep), sums[i]);
  }
  for (int i = 0; i < kCount; ++i) hn::StoreU(sums[i], kFloats, out + col + i * kStep);
}

void ProjectOneRow(const float* x, MatrixView w, const float* bias, float* out) {
  constexpr int kCount = 4;  // sums at a time, so that additions need not wait for each other
  int64_t col = 0;
  for (; col + kCount * kStep <= w.cols; col += kCount * kStep) ProjectColumns<kCount>(x, w, bias, col, out);
  for (; col + kStep <= w.cols; col += kStep) ProjectColumns<1>(x, w, bias, col, out);
  if (col == w.cols) return;
  const int64_t count = w.cols - col;
  V sum = hn::LoadN(kFloats, bias + col, count);
  for (int64_t row = 0; row < w.rows; ++row) {
    sum = hn::MulAdd(hn::Set(kFloats, x[row]), hn::LoadN(kFloats, w.Row(row) + col, count), sum);
  }
  hn::StoreN(sum, kFloats, out + col, count);
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(ProjectOneRow);

void ProjectRow(const float* x, MatrixView w, const float* bias, float* out) {
  HWY_DYNAMIC_DISPATCH(ProjectOneRow)(x, w, bias, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
