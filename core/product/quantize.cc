// SPDX-License-Identifier: Apache-2.0
#include "core/product/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/product/quantize.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

void RoundEachRow(MatrixView in, Bf16* out, int64_t out_stride) {
  for (int64_t r = 0; r < in.rows; ++r, out += out_stride) {
    const float* row = in.Row(r);
    int64_t col = 0;
    for (; col + kStep <= in.cols; col += kStep) StoreAs(hn::LoadU(kFloats, row + col), out + col);
    for (; col < in.cols; ++col) out[col] = ToBf16(row[col]);
    std::fill(out + col, out + out_stride, Bf16{});
  }
}

struct RowRange {
  float min = 0.0f, max = 0.0f;
  bool finite = true;
};

// Widened to hold 0. Several registers at a time, so that none waits for the one before it.
HWY_INLINE RowRange RangeOf(const float* row, int64_t cols) {
  constexpr int64_t kAtOnce = 4;
  const V none = hn::Zero(kFloats);
  V low[kAtOnce] = {none, none, none, none}, high[kAtOnce] = {none, none, none, none};
  V poison[kAtOnce] = {none, none, none, none};  // NaN as soon as some number is not finite
  int64_t col = 0;
  for (; col + kAtOnce * kStep <= cols; col += kAtOnce * kStep) {
    for (int64_t i = 0; i < kAtOnce; ++i) {
      const V x = hn::LoadU(kFloats, row + col + i * kStep);
      low[i] = hn::Min(low[i], x);
      high[i] = hn::Max(high[i], x);
      poison[i] = hn::MulAdd(x, none, poison[i]);
    }
  }
  for (; col < cols; col += kStep) {
    const V x = hn::LoadN(kFloats, row + col, std::min(kStep, cols - col));
    low[0] = hn::Min(low[0], x);
    high[0] = hn::Max(high[0], x);
    poison[0] = hn::MulAdd(x, none, poison[0]);
  }
  for (int64_t i = 1; i < kAtOnce; ++i) {
    low[0] = hn::Min(low[0], low[i]);
    high[0] = hn::Max(high[0], high[i]);
    poison[0] = hn::Add(poison[0], poison[i]);
  }
  return {hn::ReduceMin(kFloats, low[0]), hn::ReduceMax(kFloats, high[0]),
          hn::AllFalse(kFloats, hn::IsNaN(poison[0]))};
}

constexpr hn::Rebind<uint8_t, Floats> kBytes;

HWY_INLINE hn::Vec<hn::Rebind<uint8_t, Floats>> Quantized(V x, V inverse, V shift) {
  return hn::DemoteTo(kBytes, hn::NearestInt(hn::MulAdd(x, inverse, shift)));
}

void QuantizeEachRow(MatrixView in, uint8_t* out, int64_t out_stride, float* scale, float* zero) {
  constexpr float kLevels = 255.0f;
  for (int64_t r = 0; r < in.rows; ++r) {
    const float* row = in.Row(r);
    uint8_t* to = out + r * out_stride;
    std::fill(to + in.cols, to + out_stride, uint8_t{0});
    const RowRange range = RangeOf(row, in.cols);
    if (!range.finite) {
      std::fill(to, to + in.cols, uint8_t{0});
      scale[r] = std::numeric_limits<float>::quiet_NaN();
      zero[r] = 0.0f;
      continue;
    }
    // Halves first: the range itself may overflow.
    const float step = std::max((range.max * 0.5f - range.min * 0.5f) / (kLevels * 0.5f), 1e-30f);
    const float offset = std::nearbyint(-range.min / step);
    scale[r] = step;
    zero[r] = offset;
    const V inverse = hn::Set(kFloats, 1.0f / step), shift = hn::Set(kFloats, offset);
    int64_t col = 0;
    for (; col + kStep <= in.cols; col += kStep) {
      hn::StoreU(Quantized(hn::LoadU(kFloats, row + col), inverse, shift), kBytes, to + col);
    }
    if (col < in.cols) {
      const int64_t count = in.cols - col;
      hn::StoreN(Quantized(hn::LoadN(kFloats, row + col, count), inverse, shift), kBytes, to + col, count);
    }
  }
}

// Columns [col, col + kVectors * kStep) of all rows: what belongs to the columns stays in registers.
template <int kVectors>
HWY_INLINE void DequantizeColumns(const int32_t* in, int64_t in_stride, const QuantizedProduct& product,
                                  int64_t col, const MutableMatrixView& out) {
  const hn::RebindToSigned<Floats> integers;
  V col_sum[kVectors], col_scale[kVectors], bias[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int64_t first = col + v * kStep;
    col_sum[v] = hn::LoadU(kFloats, product.col_sum + first);
    col_scale[v] = hn::LoadU(kFloats, product.col_scale + first);
    bias[v] = product.bias == nullptr ? hn::Zero(kFloats) : hn::LoadU(kFloats, product.bias + first);
  }
  for (int64_t r = 0; r < out.rows; ++r) {
    const V scale = hn::Set(kFloats, product.row_scale[r]), zero = hn::Set(kFloats, product.row_zero[r]);
    const int32_t* const from = in + r * in_stride + col;
    float* const to = out.Row(r) + col;
    for (int v = 0; v < kVectors; ++v) {
      const V sum = hn::ConvertTo(kFloats, hn::LoadU(integers, from + v * kStep));
      const V scaled = hn::Mul(hn::NegMulAdd(zero, col_sum[v], sum), col_scale[v]);
      hn::StoreU(hn::MulAdd(scaled, scale, bias[v]), kFloats, to + v * kStep);
    }
  }
}

void DequantizeRows(const int32_t* in, int64_t in_stride, const QuantizedProduct& product,
                    MutableMatrixView out) {
  int64_t col = 0;
  for (; col + 4 * kStep <= out.cols; col += 4 * kStep)
    DequantizeColumns<4>(in, in_stride, product, col, out);
  for (; col + kStep <= out.cols; col += kStep) DequantizeColumns<1>(in, in_stride, product, col, out);
  for (; col < out.cols; ++col) {
    const float bias = product.bias == nullptr ? 0.0f : product.bias[col];
    for (int64_t r = 0; r < out.rows; ++r) {
      const auto sum = static_cast<float>(in[r * in_stride + col]);
      const float scaled = std::fma(-product.row_zero[r], product.col_sum[col], sum) * product.col_scale[col];
      out.Row(r)[col] = std::fma(scaled, product.row_scale[r], bias);
    }
  }
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(RoundEachRow);
HWY_EXPORT(QuantizeEachRow);
HWY_EXPORT(DequantizeRows);

void RoundRows(MatrixView in, Bf16* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(RoundEachRow)(in, out, out_stride);
}

void QuantizeRows(MatrixView in, uint8_t* out, int64_t out_stride, float* scale, float* zero) {
  HWY_DYNAMIC_DISPATCH(QuantizeEachRow)(in, out, out_stride, scale, zero);
}

void Dequantize(const int32_t* in, int64_t in_stride, const QuantizedProduct& product,
                MutableMatrixView out) {
  HWY_DYNAMIC_DISPATCH(DequantizeRows)(in, in_stride, product, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
