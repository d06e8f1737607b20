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

void QuantizeEachRow(MatrixView in, uint8_t* out, int64_t out_stride, float* scale, float* zero) {
  constexpr float kLevels = 255.0f;
  const hn::Rebind<uint8_t, Floats> bytes;
  for (int64_t r = 0; r < in.rows; ++r) {
    const float* row = in.Row(r);
    V low = hn::Zero(kFloats), high = hn::Zero(kFloats), poison = hn::Zero(kFloats);
    int64_t col = 0;
    for (; col + kStep <= in.cols; col += kStep) {
      const V x = hn::LoadU(kFloats, row + col);
      low = hn::Min(low, x);
      high = hn::Max(high, x);
      poison = hn::MulAdd(x, hn::Zero(kFloats), poison);  // NaN as soon as some x is not finite
    }
    float min = hn::ReduceMin(kFloats, low), max = hn::ReduceMax(kFloats, high);
    float sick = hn::ReduceSum(kFloats, poison);
    for (; col < in.cols; ++col) {
      min = std::min(min, row[col]);
      max = std::max(max, row[col]);
      sick += row[col] * 0.0f;
    }
    uint8_t* to = out + r * out_stride;
    std::fill(to + in.cols, to + out_stride, uint8_t{0});
    if (sick != sick) {
      std::fill(to, to + in.cols, uint8_t{0});
      scale[r] = std::numeric_limits<float>::quiet_NaN();
      zero[r] = 0.0f;
      continue;
    }
    // Halves first: the range itself may overflow.
    const float step = std::max((max * 0.5f - min * 0.5f) / (kLevels * 0.5f), 1e-30f);
    const float offset = std::nearbyint(-min / step);
    scale[r] = step;
    zero[r] = offset;
    const V inverse = hn::Set(kFloats, 1.0f / step), shift = hn::Set(kFloats, offset);
    for (col = 0; col + kStep <= in.cols; col += kStep) {
      const V q = hn::Add(hn::Mul(hn::LoadU(kFloats, row + col), inverse), shift);
      hn::StoreU(hn::DemoteTo(bytes, hn::NearestInt(q)), bytes, to + col);
    }
    for (; col < in.cols; ++col) {
      to[col] =
          static_cast<uint8_t>(std::clamp(std::nearbyint(row[col] * (1.0f / step) + offset), 0.0f, kLevels));
    }
  }
}

void DequantizeRows(const int32_t* in, int64_t in_stride, const QuantizedProduct& product,
                    MutableMatrixView out) {
  const hn::RebindToSigned<Floats> integers;
  for (int64_t r = 0; r < out.rows; ++r) {
    const int32_t* from = in + r * in_stride;
    float* to = out.Row(r);
    const float row_scale = product.row_scale[r], row_zero = product.row_zero[r];
    const V scale = hn::Set(kFloats, row_scale), zero = hn::Set(kFloats, row_zero);
    int64_t col = 0;
    for (; col + kStep <= out.cols; col += kStep) {
      const V sum = hn::ConvertTo(kFloats, hn::LoadU(integers, from + col));
      const V shifted = hn::NegMulAdd(zero, hn::LoadU(kFloats, product.col_sum + col), sum);
      const V scaled = hn::Mul(hn::Mul(shifted, hn::LoadU(kFloats, product.col_scale + col)), scale);
      const V bias = product.bias == nullptr ? hn::Zero(kFloats) : hn::LoadU(kFloats, product.bias + col);
      hn::StoreU(hn::Add(scaled, bias), kFloats, to + col);
    }
    for (; col < out.cols; ++col) {
      const float shifted = std::fma(-row_zero, product.col_sum[col], static_cast<float>(from[col]));
      const float bias = product.bias == nullptr ? 0.0f : product.bias[col];
      to[col] = shifted * product.col_scale[col] * row_scale + bias;
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
