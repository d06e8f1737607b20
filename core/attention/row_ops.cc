// SPDX-License-Identifier: Apache-2.0
#include "core/attention/row_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

#include "oneapi/dnnl/dnnl.hpp"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/row_ops.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, kLaneGranule>;
using V = hn::Vec<Floats>;

constexpr Floats kFloats;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// 2^x for x <= 0, and NaN for NaN. The fraction's power is a minimax polynomial on [0, 1) with relative
// error 7.5e-8; below the normal range the result is zero, as it would be with denormals flushed.
HWY_INLINE V Exp2(V x) {
  const hn::RebindToSigned<Floats> integers;
  const auto underflows = hn::Lt(x, hn::Set(kFloats, -126.0f));
  x = hn::IfThenElse(underflows, hn::Zero(kFloats), x);
  const V whole = hn::Floor(x);
  const V fraction = hn::Sub(x, whole);
  V power = hn::Set(kFloats, 0.00187757667f);
  power = hn::MulAdd(power, fraction, hn::Set(kFloats, 0.00898934009f));
  power = hn::MulAdd(power, fraction, hn::Set(kFloats, 0.0558263181f));
  power = hn::MulAdd(power, fraction, hn::Set(kFloats, 0.240153617f));
  power = hn::MulAdd(power, fraction, hn::Set(kFloats, 0.693153073f));
  power = hn::MulAdd(power, fraction, hn::Set(kFloats, 0.999999925f));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(integers, whole), hn::Set(integers, 127)));
  return hn::IfThenZeroElse(underflows, hn::Mul(power, hn::BitCast(kFloats, exponent)));
}

void AddBiasAndScaleRows(MatrixView in, const float* bias, float scale, MutableMatrixView out) {
  const int64_t lanes = hn::Lanes(kFloats);
  const V factor = hn::Set(kFloats, scale);
  for (int64_t row = 0; row < in.rows; ++row) {
    for (int64_t col = 0; col < in.cols; col += lanes) {
      const V sum = hn::Add(hn::LoadU(kFloats, in.Row(row) + col), hn::LoadU(kFloats, bias + col));
      hn::StoreU(hn::Mul(sum, factor), kFloats, out.Row(row) + col);
    }
  }
}

// Four rows of four elements, transposed: 128-bit registers exist everywhere and need no lane crossing.
using Quad = hn::CappedTag<float, 4>;
constexpr Quad kQuad;

HWY_INLINE void Transpose4x4(const hn::Vec<Quad> (&rows)[4], float* out, int64_t stride) {
  const auto low = [&](auto a, auto b) { return hn::InterleaveLower(kQuad, a, b); };
  const auto high = [&](auto a, auto b) { return hn::InterleaveUpper(kQuad, a, b); };
  // Interleaving rows 0, 2 and 1, 3 and then those two gives columns in order.
  const auto low02 = low(rows[0], rows[2]), high02 = high(rows[0], rows[2]);
  const auto low13 = low(rows[1], rows[3]), high13 = high(rows[1], rows[3]);
  hn::StoreU(low(low02, low13), kQuad, out);
  hn::StoreU(high(low02, low13), kQuad, out + stride);
  hn::StoreU(low(high02, high13), kQuad, out + 2 * stride);
  hn::StoreU(high(high02, high13), kQuad, out + 3 * stride);
}

void TransposeKeyRows(MatrixView in, const float* bias, float* panel, int64_t panel_stride) {
  for (int64_t row = 0; row < RoundUpToLanes(in.rows); row += 4) {
    for (int64_t col = 0; col < in.cols; col += 4) {
      const auto add = hn::LoadU(kQuad, bias + col);
      hn::Vec<Quad> rows[4];
      for (int64_t i = 0; i < 4; ++i) {
        rows[i] = row + i < in.rows ? hn::Add(hn::LoadU(kQuad, in.Row(row + i) + col), add) : hn::Zero(kQuad);
      }
      Transpose4x4(rows, panel + col * panel_stride + row, panel_stride);
    }
  }
}

// Scores of keys that the query may not see become -inf: outside `visible` (relative to the tile), and where
// the explicit mask of this query says so.
void MaskRow(float* scores, int64_t keys, KeyRange visible, const MaskView& mask, int64_t mask_offset) {
  std::fill(scores, scores + visible.begin, kMinusInfinity);
  std::fill(scores + visible.end, scores + RoundUpToLanes(keys), kMinusInfinity);
  if (mask.empty()) return;
  if (mask.dtype == DType::kBool) {
    const auto* allowed = static_cast<const uint8_t*>(mask.data) + mask_offset;
    for (int64_t key = visible.begin; key < visible.end; ++key) {
      if (allowed[key] == 0) scores[key] = kMinusInfinity;
    }
  } else {
    constexpr float kLog2E = 1.44269504f;
    const auto* bytes = static_cast<const char*>(mask.data) + mask_offset * int64_t{sizeof(float)};
    for (int64_t key = visible.begin; key < visible.end; ++key) {
      float bias;
      std::memcpy(&bias, bytes + key * sizeof(float), sizeof(bias));  // wire memory need not be aligned
      // A finite bias must stay finite: masks of -FLT_MAX in all keys of a row mean equal weights, not none.
      const float scaled = std::max(bias * kLog2E, std::numeric_limits<float>::lowest());
      scores[key] = bias == kMinusInfinity ? kMinusInfinity : scores[key] + scaled;
    }
  }
}

HWY_INLINE float RowMax(const float* scores, int64_t keys) {
  V max = hn::Set(kFloats, kMinusInfinity);
  for (int64_t key = 0; key < keys; key += hn::Lanes(kFloats))
    max = hn::Max(max, hn::LoadU(kFloats, scores + key));
  return hn::ReduceMax(kFloats, max);
}

// scores = 2^(scores - max); returns the sum.
HWY_INLINE float ExpRow(float* scores, int64_t keys, float max) {
  const V reference = hn::Set(kFloats, max);
  V sum = hn::Zero(kFloats);
  for (int64_t key = 0; key < keys; key += hn::Lanes(kFloats)) {
    const V e = Exp2(hn::Sub(hn::LoadU(kFloats, scores + key), reference));
    hn::StoreU(e, kFloats, scores + key);
    sum = hn::Add(sum, e);
  }
  return hn::ReduceSum(kFloats, sum);
}

void ScaleRow(const float* in, int64_t n, float factor, float* out) {
  const V f = hn::Set(kFloats, factor);
  int64_t i = 0;
  for (; i + int64_t(hn::Lanes(kFloats)) <= n; i += hn::Lanes(kFloats)) {
    hn::StoreU(hn::Mul(hn::LoadU(kFloats, in + i), f), kFloats, out + i);
  }
  for (; i < n; ++i) out[i] = in[i] * factor;
}

void ScaleAndAddRow(const float* in, int64_t n, float factor, float* out) {
  const V f = hn::Set(kFloats, factor);
  int64_t i = 0;
  for (; i + int64_t(hn::Lanes(kFloats)) <= n; i += hn::Lanes(kFloats)) {
    hn::StoreU(hn::Add(hn::LoadU(kFloats, out + i), hn::Mul(hn::LoadU(kFloats, in + i), f)), kFloats,
               out + i);
  }
  for (; i < n; ++i) out[i] += in[i] * factor;
}

// Takes the row's running maximum to `max`, and what was summed relative to the old one along with it.
HWY_INLINE void RaiseMax(const SoftmaxState& state, int64_t row, float max) {
  const float old = state.row_max[row];
  state.row_max[row] = max;
  if (old == kMinusInfinity) return;  // nothing was summed yet
  const float factor = std::exp2(old - max);
  state.row_sum[row] *= factor;
  ScaleRow(state.acc.Row(row), state.acc.cols, factor, state.acc.Row(row));
}

void SoftmaxTileRows(const ScoreTile& tile, const Visibility& visibility, const MaskView& mask,
                     const SoftmaxState& state) {
  const int64_t keys = tile.scores.cols;
  const int64_t padded_keys = RoundUpToLanes(keys);  // what the product with the values reads
  for (int64_t row = 0; row < tile.scores.rows; ++row) {
    const int64_t query = tile.first_query + row;
    const KeyRange all = VisibleKeys(visibility, query, tile.q_len, tile.kv_len);
    const int64_t begin = std::clamp<int64_t>(all.begin - tile.first_key, 0, keys);
    const int64_t end = std::clamp<int64_t>(all.end - tile.first_key, begin, keys);
    float* scores = tile.scores.Row(row);
    MaskRow(scores, keys, {begin, end}, mask,
            tile.head * mask.head_stride + query * mask.query_stride + tile.first_key);
    const float max = RowMax(scores, padded_keys);
    if (max > state.row_max[row]) RaiseMax(state, row, max);
    // With every key masked so far any finite reference does: 2^-inf is 0.
    const float reference = state.row_max[row] == kMinusInfinity ? 0.0f : state.row_max[row];
    state.row_sum[row] += ExpRow(scores, padded_keys, reference);
  }
}

void NormaliseRows(const SoftmaxState& state, MutableMatrixView out) {
  for (int64_t row = 0; row < out.rows; ++row) {
    const float sum = state.row_sum[row];
    ScaleRow(state.acc.Row(row), out.cols, sum == 0.0f ? 0.0f : 1.0f / sum, out.Row(row));
  }
}

std::string TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(AddBiasAndScaleRows);
HWY_EXPORT(TransposeKeyRows);
HWY_EXPORT(SoftmaxTileRows);
HWY_EXPORT(NormaliseRows);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(ScaleAndAddRow);
HWY_EXPORT(TargetName);

void MatchSimdToOneDnn() {
  static std::once_flag once;
  std::call_once(once, [] {
    constexpr int64_t kAvx512 = HWY_AVX3 | HWY_AVX3_DL | HWY_AVX3_ZEN4 | HWY_AVX3_SPR;
    switch (dnnl::get_effective_cpu_isa()) {
      case dnnl::cpu_isa::isa_default:
      case dnnl::cpu_isa::sse41:
      case dnnl::cpu_isa::avx:
        return hwy::DisableTargets(kAvx512 | HWY_AVX2);
      case dnnl::cpu_isa::avx2:
      case dnnl::cpu_isa::avx2_vnni:
      case dnnl::cpu_isa::avx2_vnni_2:
        return hwy::DisableTargets(kAvx512);
      default:
        return;
    }
  });
}

std::string SimdTargetName() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }

void AddBiasAndScale(MatrixView in, const float* bias, float scale, MutableMatrixView out) {
  HWY_DYNAMIC_DISPATCH(AddBiasAndScaleRows)(in, bias, scale, out);
}

void TransposeKeys(MatrixView in, const float* bias, float* panel, int64_t panel_stride) {
  HWY_DYNAMIC_DISPATCH(TransposeKeyRows)(in, bias, panel, panel_stride);
}

void SoftmaxTile(const ScoreTile& tile, const Visibility& visibility, const MaskView& mask,
                 const SoftmaxState& state) {
  HWY_DYNAMIC_DISPATCH(SoftmaxTileRows)(tile, visibility, mask, state);
}

void Normalise(const SoftmaxState& state, MutableMatrixView out) {
  HWY_DYNAMIC_DISPATCH(NormaliseRows)(state, out);
}

void ScaleTo(const float* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleRow)(in, n, factor, out);
}

void ScaleAndAdd(const float* in, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleAndAddRow)(in, n, factor, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
