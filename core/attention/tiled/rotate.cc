// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/rotate.h"

#include <algorithm>

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

template <typename T>
HWY_INLINE void FinishRowsAs(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<T> out) {
  for (int64_t r = 0; r < in.rows; ++r) {
    float* row = in.Row(r);
    if (rotation.num_pairs > 0) {
      RotateRow(rotation, rotation.cos + r * rotation.num_pairs, rotation.sin + r * rotation.num_pairs, row);
    }
    if (static_cast<const void*>(out.Row(r)) == row) continue;  // it is there
    for (int64_t col = 0; col < in.cols; col += kStep) {
      StoreAs(hn::LoadU(kFloats, row + col), out.Row(r) + col);
    }
  }
}

void FinishRowsF32(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<float> out) {
  FinishRowsAs(in, rotation, out);
}

void FinishRowsBf16(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<Bf16> out) {
  FinishRowsAs(in, rotation, out);
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
HWY_EXPORT(ClearNotFinite);

void FinishRows(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<float> out) {
  HWY_DYNAMIC_DISPATCH(FinishRowsF32)(in, rotation, out);
}

void FinishRows(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<Bf16> out) {
  HWY_DYNAMIC_DISPATCH(FinishRowsBf16)(in, rotation, out);
}

uint64_t ClearRowsNotFinite(MutableMatrixView rows) { return HWY_DYNAMIC_DISPATCH(ClearNotFinite)(rows); }

}  // namespace headlight
#endif  // HWY_ONCE
