// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/packing.h"

#include <algorithm>
#include <cmath>
#include <limits>

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/tiled/packing.cc"
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

#if HWY_TARGET <= HWY_AVX3
// Sixteen rows of sixteen words, zeros for the rows from `rows` on.
HWY_INLINE void Transpose16x16(const float* in, int64_t rows, int64_t row_stride, float* out,
                               int64_t stride) {
  __m512i r[16], t[16];
#pragma GCC unroll 16
  for (int64_t i = 0; i < 16; ++i) {
    r[i] = i < rows ? _mm512_loadu_si512(in + i * row_stride) : _mm512_setzero_si512();
  }
  // Pairs of words, then of pairs, inside each quarter; then the quarters themselves.
#pragma GCC unroll 8
  for (int64_t i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < 8; ++i) {
    _mm512_storeu_si512(out + i * stride, _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88));
    _mm512_storeu_si512(out + (i + 8) * stride, _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd));
  }
}

void TransposeWordRows(const float* in, int64_t rows, int64_t words, int64_t row_stride, float* panel,
                       int64_t panel_cols) {
  for (int64_t row = 0; row < panel_cols; row += 16) {
    for (int64_t word = 0; word < words; word += 16) {
      Transpose16x16(in + row * row_stride + word, rows - row, row_stride, panel + word * panel_cols + row,
                     panel_cols);
    }
  }
}

#else

// Four rows of four words, transposed: 128-bit registers exist everywhere and need no lane crossing.
using Quad = hn::CappedTag<float, 4>;
constexpr Quad kQuad;

HWY_INLINE void Transpose4x4(const hn::Vec<Quad> (&rows)[4], float* out, int64_t stride) {
  const auto low = [&](auto a, auto b) HWY_ATTR { return hn::InterleaveLower(kQuad, a, b); };
  const auto high = [&](auto a, auto b) HWY_ATTR { return hn::InterleaveUpper(kQuad, a, b); };
  // Interleaving rows 0, 2 and 1, 3 and then those two gives columns in order.
  const auto low02 = low(rows[0], rows[2]), high02 = high(rows[0], rows[2]);
  const auto low13 = low(rows[1], rows[3]), high13 = high(rows[1], rows[3]);
  hn::StoreU(low(low02, low13), kQuad, out);
  hn::StoreU(high(low02, low13), kQuad, out + stride);
  hn::StoreU(low(high02, high13), kQuad, out + 2 * stride);
  hn::StoreU(high(high02, high13), kQuad, out + 3 * stride);
}

void TransposeWordRows(const float* in, int64_t rows, int64_t words, int64_t row_stride, float* panel,
                       int64_t panel_cols) {
  for (int64_t row = 0; row < panel_cols; row += 4) {
    for (int64_t word = 0; word < words; word += 4) {
      hn::Vec<Quad> quads[4];
      for (int64_t i = 0; i < 4; ++i) {
        quads[i] = row + i < rows ? hn::LoadU(kQuad, in + (row + i) * row_stride + word) : hn::Zero(kQuad);
      }
      Transpose4x4(quads, panel + word * panel_cols + row, panel_cols);
    }
  }
}

#endif

void InterleavePairRows(const Bf16* in, int64_t rows, int64_t cols, Bf16* out) {
  const hn::CappedTag<uint16_t, 8> halves;  // 128 bits: interleaving stays inside
  const auto* from = reinterpret_cast<const uint16_t*>(in);
  auto* to = reinterpret_cast<uint16_t*>(out);
  for (int64_t row = 0; row < rows; row += 2) {
    for (int64_t col = 0; col < cols; col += 8) {
      const auto even = hn::LoadU(halves, from + row * cols + col);
      const auto odd = hn::LoadU(halves, from + (row + 1) * cols + col);
      hn::StoreU(hn::InterleaveLower(halves, even, odd), halves, to + row * cols + 2 * col);
      hn::StoreU(hn::InterleaveUpper(halves, even, odd), halves, to + row * cols + 2 * col + 8);
    }
  }
}

void ConvertRows(MatrixView in, Bf16* out, int64_t out_stride) {
  for (int64_t r = 0; r < in.rows; ++r) {
    const float* row = in.Row(r);
    Bf16* to = out + r * out_stride;
    int64_t col = 0;
    for (; col + kStep <= in.cols; col += kStep) StoreAs(hn::LoadU(kFloats, row + col), to + col);
    for (; col < in.cols; ++col) to[col] = ToBf16(row[col]);
    std::fill(to + col, to + out_stride, Bf16{});
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

HWY_EXPORT(FinishRowsF32);
HWY_EXPORT(FinishRowsBf16);
HWY_EXPORT(TransposeWordRows);
HWY_EXPORT(InterleavePairRows);
HWY_EXPORT(ConvertRows);
HWY_EXPORT(QuantizeEachRow);
HWY_EXPORT(DequantizeRows);

void FinishRows(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<float> out) {
  HWY_DYNAMIC_DISPATCH(FinishRowsF32)(in, rotation, out);
}

void FinishRows(MutableMatrixView in, const Rotation& rotation, BasicMatrixView<Bf16> out) {
  HWY_DYNAMIC_DISPATCH(FinishRowsBf16)(in, rotation, out);
}

void TransposeWords(const void* in, int64_t rows, int64_t words, int64_t row_stride, void* panel,
                    int64_t panel_cols) {
  HWY_DYNAMIC_DISPATCH(TransposeWordRows)
  (static_cast<const float*>(in), rows, words, row_stride, static_cast<float*>(panel), panel_cols);
}

void InterleavePairs(const Bf16* in, int64_t rows, int64_t cols, Bf16* out) {
  HWY_DYNAMIC_DISPATCH(InterleavePairRows)(in, rows, cols, out);
}

void ConvertRowsToBf16(MatrixView in, Bf16* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(ConvertRows)(in, out, out_stride);
}

void QuantizeRows(MatrixView in, uint8_t* out, int64_t out_stride, float* scale, float* zero) {
  HWY_DYNAMIC_DISPATCH(QuantizeEachRow)(in, out, out_stride, scale, zero);
}

void Dequantize(const int32_t* in, int64_t in_stride, const QuantizedProduct& product,
                MutableMatrixView out) {
  HWY_DYNAMIC_DISPATCH(DequantizeRows)(in, in_stride, product, out);
}

void FillRows(const float* row, MutableMatrixView rows) {
  for (int64_t r = 0; r < rows.rows; ++r) std::copy_n(row, rows.cols, rows.Row(r));
}

}  // namespace headlight
#endif  // HWY_ONCE
