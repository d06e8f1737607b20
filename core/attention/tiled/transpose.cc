// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/transpose.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/tiled/transpose.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

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

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(TransposeWordRows);
HWY_EXPORT(InterleavePairRows);

void TransposeWords(const void* in, int64_t rows, int64_t words, int64_t row_stride, void* panel,
                    int64_t panel_cols) {
  HWY_DYNAMIC_DISPATCH(TransposeWordRows)
  (static_cast<const float*>(in), rows, words, row_stride, static_cast<float*>(panel), panel_cols);
}

void InterleavePairs(const Bf16* in, int64_t rows, int64_t cols, Bf16* out) {
  HWY_DYNAMIC_DISPATCH(InterleavePairRows)(in, rows, cols, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
