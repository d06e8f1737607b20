// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/softmax.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/tiled/softmax.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/exp2-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

constexpr int64_t kAhead = 4;  // rows
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Whole registers: what lies beyond `keys` is padding that the mask overwrites.
HWY_INLINE void SoftcapRow(float* scores, int64_t keys, float softcap) {
  const V cap = hn::Set(kFloats, softcap);
  for (int64_t key = 0; key < keys; key += kStep) {
    hn::StoreU(hn::Mul(cap, hn::Tanh(kFloats, hn::LoadU(kFloats, scores + key))), kFloats, scores + key);
  }
}

// Adds -slope * |key - position| to `keys` scores whose first key is `first_key`.
HWY_INLINE void AlibiRow(float* scores, int64_t keys, float slope, int64_t first_key, int64_t position) {
  for (int64_t key = 0; key < keys; ++key) {
    scores[key] -= slope * static_cast<float>(std::abs(first_key + key - position));
  }
}

// Adds an explicit mask to the scores of one row, or forbids what it forbids.
void MaskRow(float* scores, int64_t begin, int64_t end, const MaskView& mask, int64_t mask_offset) {
  if (mask.dtype == DType::kBool) {
    const auto* allowed = static_cast<const uint8_t*>(mask.data) + mask_offset;
    for (int64_t key = begin; key < end; ++key) {
      if (allowed[key] == 0) scores[key] = kMinusInfinity;
    }
    return;
  }
  constexpr float kLog2E = 1.44269504f;
  const auto* bytes = static_cast<const char*>(mask.data) + mask_offset * int64_t{sizeof(float)};
  for (int64_t key = begin; key < end; ++key) {
    float bias;
    std::memcpy(&bias, bytes + key * sizeof(float), sizeof(bias));  // wire memory need not be aligned
    // A finite bias must stay finite: masks of -FLT_MAX in all keys of a row mean equal weights, not none.
    const float scaled = std::max(bias * kLog2E, std::numeric_limits<float>::lowest());
    scores[key] = bias == kMinusInfinity ? kMinusInfinity : scores[key] + scaled;
  }
}

// Applies all rules to one row of a tile of `keys` keys; the padding up to padded_keys is forbidden.
HWY_INLINE void ApplyRules(const ScoreRules& rules, int64_t query, int64_t first_key, int64_t keys,
                           int64_t padded_keys, float* scores) {
  if (rules.softcap != 0.0f) SoftcapRow(scores, keys, rules.softcap);
  const KeyRange visible = VisibleKeys(rules.visibility, query, rules.q_len, rules.kv_len);
  const int64_t own_keys = std::clamp<int64_t>(rules.kv_len - first_key, 0, keys);
  const int64_t begin = std::clamp<int64_t>(visible.begin - first_key, 0, own_keys);
  const int64_t end = std::clamp<int64_t>(visible.end - first_key, begin, own_keys);
  if (rules.alibi_slope != 0.0f) {
    const int64_t position = query + rules.kv_len - rules.q_len;
    AlibiRow(scores + begin, end - begin, rules.alibi_slope, first_key + begin, position);
  }
  if (!rules.mask.empty()) {
    MaskRow(scores, begin, end, rules.mask,
            rules.head * rules.mask.head_stride + query * rules.mask.query_stride + first_key);
  }
  std::fill(scores, scores + begin, kMinusInfinity);
  std::fill(scores + end, scores + own_keys, kMinusInfinity);
  std::fill(scores + keys, scores + padded_keys, kMinusInfinity);
}

HWY_INLINE float RowMax(const float* scores, int64_t keys) {
  V max = hn::Set(kFloats, kMinusInfinity);
  for (int64_t key = 0; key < keys; key += kStep) max = hn::Max(max, hn::LoadU(kFloats, scores + key));
  return hn::ReduceMax(kFloats, max);
}

// The maximum of the first kReferenceKeys keys of which one is allowed.
HWY_INLINE float FirstMax(const float* scores, int64_t keys) {
  for (int64_t key = 0; key < keys; key += kReferenceKeys) {
    const float max = RowMax(scores + key, std::min(kReferenceKeys, keys - key));
    if (max != kMinusInfinity) return max;
  }
  return kMinusInfinity;
}

HWY_INLINE void ScaleInPlace(float* values, int64_t n, float factor) {
  const V f = hn::Set(kFloats, factor);
  for (int64_t i = 0; i < n; i += kStep) {
    hn::StoreU(hn::Mul(hn::LoadU(kFloats, values + i), f), kFloats, values + i);
  }
}

// Takes the row's running maximum to `max`, and what was summed relative to the old one along with it.
HWY_INLINE void RaiseReference(const SoftmaxState& state, int64_t row, float max) {
  const float old = state.reference[row];
  state.reference[row] = max;
  if (old == kMinusInfinity) return;  // nothing was summed yet
  const float factor = std::exp2(old - max);
  float* const sum = state.sum + row * kLanes;
  if (state.exponent_sum != nullptr) {
    // Each exponent falls by max - old. Far below, factor is 0, and the product with it had better be finite.
    const V fall = hn::Set(kFloats, std::max(old - max, -1024.0f));
    float* const exponents = state.exponent_sum + row * kLanes;
    for (int64_t i = 0; i < kLanes; i += kStep) {
      const V moved = hn::MulAdd(fall, hn::LoadU(kFloats, sum + i), hn::LoadU(kFloats, exponents + i));
      hn::StoreU(moved, kFloats, exponents + i);
    }
    ScaleInPlace(exponents, kLanes, factor);
  }
  ScaleInPlace(sum, kLanes, factor);
  ScaleInPlace(state.acc.Row(row), state.acc.cols, factor);
}

// out = 2^(scores - reference); adds element i to sum[i % kLanes], and, if it is wanted, the element times
// its exponent to exponent_sum[i % kLanes].
template <bool kWithExponents, typename T>
HWY_INLINE void ExpRow(const float* scores, int64_t keys, float reference, T* out, float* sum,
                       float* exponent_sum) {
  const V r = hn::Set(kFloats, reference);
  constexpr int64_t kParts = kLanes / kStep;
  V sums[kParts];
  V exponents[kParts];
  for (int64_t part = 0; part < kParts; ++part) {
    sums[part] = hn::LoadU(kFloats, sum + part * kStep);
    if constexpr (kWithExponents) exponents[part] = hn::LoadU(kFloats, exponent_sum + part * kStep);
  }
  for (int64_t key = 0; key < keys; key += kLanes) {
    for (int64_t part = 0; part < kParts; ++part) {
      const int64_t i = key + part * kStep;
      const V x = hn::Sub(hn::LoadU(kFloats, scores + i), r);
      const V e = Exp2<T>(x);
      StoreAs(e, out + i);
      sums[part] = hn::Add(sums[part], e);
      if constexpr (kWithExponents) exponents[part] = AddExponent(e, x, exponents[part]);
    }
  }
  for (int64_t part = 0; part < kParts; ++part) {
    hn::StoreU(sums[part], kFloats, sum + part * kStep);
    if constexpr (kWithExponents) hn::StoreU(exponents[part], kFloats, exponent_sum + part * kStep);
  }
}

template <typename T>
HWY_INLINE void SoftmaxTileAs(const ScoreTile<T>& tile, const ScoreRules& rules, const SoftmaxState& state) {
  const int64_t keys = tile.scores.cols;
  const int64_t padded_keys = RoundUp(keys, kGranule<T>);  // what the product with the values reads
  for (int64_t row = 0; row < tile.scores.rows; ++row) {
    float* scores = tile.scores.Row(row);
    ApplyRules(rules, tile.first_query + row, tile.first_key, keys, padded_keys, scores);
    if (state.exact) {
      const float max = RowMax(scores, padded_keys);
      if (max > state.reference[row]) RaiseReference(state, row, max);
    } else if (state.reference[row] == kMinusInfinity) {
      state.reference[row] = FirstMax(scores, padded_keys);
    }
    // With every key forbidden so far any finite reference does: 2^-inf is 0.
    const float reference = state.reference[row] == kMinusInfinity ? 0.0f : state.reference[row];
    T* const out = tile.probabilities + row * tile.probability_stride;
    float* const sum = state.sum + row * kLanes;
    if (state.exponent_sum == nullptr) {
      ExpRow<false>(scores, padded_keys, reference, out, sum, nullptr);
    } else {
      ExpRow<true>(scores, padded_keys, reference, out, sum, state.exponent_sum + row * kLanes);
    }
  }
}

void SoftmaxTileF32(const ScoreTile<float>& tile, const ScoreRules& rules, const SoftmaxState& state) {
  SoftmaxTileAs(tile, rules, state);
}

void SoftmaxTileBf16(const ScoreTile<Bf16>& tile, const ScoreRules& rules, const SoftmaxState& state) {
  SoftmaxTileAs(tile, rules, state);
}

// Lane i is the sum of row `row + i`, of the last row beyond it.
HWY_INLINE V4 SumOfFourRows(const float* partial_sums, int64_t row, int64_t rows) {
  V sums[4];
  for (int64_t r = 0; r < 4; ++r) {
    const float* lanes = partial_sums + std::min(row + r, rows - 1) * kLanes;
    sums[r] = hn::LoadU(kFloats, lanes);
    for (int64_t i = kStep; i < kLanes; i += kStep) sums[r] = hn::Add(sums[r], hn::LoadU(kFloats, lanes + i));
  }
  return SumFour(sums);
}

HWY_INLINE void StoreRows(V4 values, int64_t row, int64_t rows, float* out) {
  if (row + 4 <= rows) {
    hn::StoreU(values, kFourFloats, out + row);
  } else {
    hn::StoreN(values, kFourFloats, out + row, static_cast<size_t>(rows - row));
  }
}

void SumOfRows(const float* partial_sums, int64_t rows, float* out) {
  for (int64_t row = 0; row < rows; row += 4)
    StoreRows(SumOfFourRows(partial_sums, row, rows), row, rows, out);
}

bool FinishTheSums(const SoftmaxState& state, int64_t rows, float* sums, float* inverses) {
  bool safe = true;
  for (int64_t row = 0; row < rows; row += 4) {
    const V4 sum = SumOfFourRows(state.sum, row, rows);
    safe &= hn::AllTrue(kFourFloats, hn::Lt(sum, hn::Set(kFourFloats, 0x1p60f)));  // NaN is not safe either
    const V4 inverse = hn::Div(hn::Set(kFourFloats, 1.0f), sum);
    StoreRows(sum, row, rows, sums);
    StoreRows(hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(kFourFloats)), inverse), row, rows, inverses);
  }
  return safe || state.exact;
}

template <typename T>
HWY_INLINE void NormaliseAs(const SoftmaxState& state, const float* inverses, BasicMatrixView<T> out) {
  for (int64_t row = 0; row < out.rows; ++row) {
    const float factor = inverses[row];
    const V f = hn::Set(kFloats, factor);
    const float* acc = state.acc.Row(row);
    T* to = out.Row(row);
    // Rows of `out` lie too far apart for the hardware to fetch the next ones by itself.
    if (row + kAhead < out.rows) {
      for (int64_t col = 0; col < out.cols; col += kGranule<T>)
        __builtin_prefetch(out.Row(row + kAhead) + col, 1);
    }
    int64_t col = 0;
    for (; col + kStep <= out.cols; col += kStep)
      StoreAs(hn::Mul(hn::LoadU(kFloats, acc + col), f), to + col);
    for (; col < out.cols; ++col) {
      if constexpr (sizeof(T) == 2) {
        to[col] = ToBf16(acc[col] * factor);
      } else {
        to[col] = acc[col] * factor;
      }
    }
  }
}

void NormaliseF32(const SoftmaxState& state, const float* inverses, BasicMatrixView<float> out) {
  NormaliseAs(state, inverses, out);
}

void NormaliseBf16(const SoftmaxState& state, const float* inverses, BasicMatrixView<Bf16> out) {
  NormaliseAs(state, inverses, out);
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(SoftmaxTileF32);
HWY_EXPORT(SoftmaxTileBf16);
HWY_EXPORT(SumOfRows);
HWY_EXPORT(FinishTheSums);
HWY_EXPORT(NormaliseF32);
HWY_EXPORT(NormaliseBf16);

void SoftmaxTile(const ScoreTile<float>& tile, const ScoreRules& rules, const SoftmaxState& state) {
  HWY_DYNAMIC_DISPATCH(SoftmaxTileF32)(tile, rules, state);
}

void SoftmaxTile(const ScoreTile<Bf16>& tile, const ScoreRules& rules, const SoftmaxState& state) {
  HWY_DYNAMIC_DISPATCH(SoftmaxTileBf16)(tile, rules, state);
}

void SumRows(const float* partial_sums, int64_t rows, float* out) {
  HWY_DYNAMIC_DISPATCH(SumOfRows)(partial_sums, rows, out);
}

bool FinishSums(const SoftmaxState& state, int64_t rows, float* sums, float* inverses) {
  return HWY_DYNAMIC_DISPATCH(FinishTheSums)(state, rows, sums, inverses);
}

void Normalise(const SoftmaxState& state, const float* inverses, BasicMatrixView<float> out) {
  HWY_DYNAMIC_DISPATCH(NormaliseF32)(state, inverses, out);
}

void Normalise(const SoftmaxState& state, const float* inverses, BasicMatrixView<Bf16> out) {
  HWY_DYNAMIC_DISPATCH(NormaliseBf16)(state, inverses, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
