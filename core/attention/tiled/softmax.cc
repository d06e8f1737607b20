// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

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
// Between them the terms of a sum have been neither too large nor too small.
constexpr float kLargestSum = 0x1p60f;
constexpr float kSmallestSum = 0x1p-60f;

// Whole registers: what lies beyond `keys` is padding that the mask overwrites.
HWY_INLINE void SoftcapRow(float* scores, int64_t keys, float softcap) {
  const V cap = hn::Set(kFloats, softcap);
  for (int64_t key = 0; key < keys; key += kStep) {
    hn::StoreU(hn::Mul(cap, hn::Tanh(kFloats, hn::LoadU(kFloats, scores + key))), kFloats, scores + key);
  }
}

// The keys of a tile that a row sees by position, counted from the tile's first one, and the sequence's own
// keys among the tile's.
struct RowKeys {
  int64_t begin;
  int64_t end;
  int64_t own;
};

HWY_INLINE RowKeys KeysOf(const ScoreRules& rules, int64_t query, int64_t first_key, int64_t keys) {
  const KeyRange visible = VisibleKeys(rules.visibility, query, rules.q_len, rules.kv_len);
  const int64_t own = std::clamp<int64_t>(rules.kv_len - first_key, 0, keys);
  const int64_t begin = std::clamp<int64_t>(visible.begin - first_key, 0, own);
  return {begin, std::clamp<int64_t>(visible.end - first_key, begin, own), own};
}

// scores[key] = change(scores[key], key) for the keys [begin, end), a register at a time: lane i is that of
// key + i. Where fewer are left, `change` is asked for `count` of them.
template <typename Change>
HWY_INLINE void ForEachScore(float* scores, int64_t begin, int64_t end, const Change& change) {
  int64_t key = begin;
  for (; key + kStep <= end; key += kStep) {
    hn::StoreU(change(hn::LoadU(kFloats, scores + key), key, kStep), kFloats, scores + key);
  }
  if (key == end) return;
  const auto count = static_cast<size_t>(end - key);
  hn::StoreN(change(hn::LoadN(kFloats, scores + key, count), key, end - key), kFloats, scores + key, count);
}

// Numbers of a mask from `first` on, zeros beyond count. Wire memory need not be aligned.
HWY_INLINE V MaskTerms(const uint8_t* bytes, int64_t first, int64_t count) {
  const hn::Repartition<uint8_t, Floats> octets;
  const uint8_t* const from = bytes + first * int64_t{sizeof(float)};
  if (count == kStep) return hn::BitCast(kFloats, hn::LoadU(octets, from));
  return hn::BitCast(kFloats, hn::LoadN(octets, from, static_cast<size_t>(count) * sizeof(float)));
}

// -inf where a mask of booleans forbids.
HWY_INLINE void ForbidByBooleans(float* scores, const RowKeys& row, const uint8_t* allowed) {
  const hn::Rebind<uint8_t, Floats> bytes;
  const hn::RebindToSigned<Floats> integers;
  ForEachScore(scores, row.begin, row.end, [&](V score, int64_t key, int64_t count) HWY_ATTR {
    const auto flags = count == kStep ? hn::LoadU(bytes, allowed + key)
                                      : hn::LoadN(bytes, allowed + key, static_cast<size_t>(count));
    const auto forbidden = hn::Eq(hn::PromoteTo(integers, flags), hn::Zero(integers));
    return hn::IfThenElse(hn::RebindMask(kFloats, forbidden), hn::Set(kFloats, kMinusInfinity), score);
  });
}

// The same for a mask of numbers.
HWY_INLINE void ForbidByNumbers(float* scores, const RowKeys& row, const uint8_t* terms) {
  ForEachScore(scores, row.begin, row.end, [&](V score, int64_t key, int64_t count) HWY_ATTR {
    const V minus_infinity = hn::Set(kFloats, kMinusInfinity);
    return hn::IfThenElse(hn::Eq(MaskTerms(terms, key, count), minus_infinity), minus_infinity, score);
  });
}

// Adds a mask of numbers, of which those that are finite stay so: masks of -FLT_MAX in all keys of a row mean
// equal weights, not none.
HWY_INLINE void AddNumbers(float* scores, const RowKeys& row, const uint8_t* terms) {
  ForEachScore(scores, row.begin, row.end, [&](V score, int64_t key, int64_t count) HWY_ATTR {
    const V minus_infinity = hn::Set(kFloats, kMinusInfinity);
    const V term = MaskTerms(terms, key, count);
    const V scaled = hn::Mul(term, hn::Set(kFloats, std::numbers::log2e_v<float>));
    // NaN, as the second one, is what Max gives.
    const V bounded = MaxOrSecond(hn::Set(kFloats, std::numeric_limits<float>::lowest()), scaled);
    return hn::IfThenElse(hn::Eq(term, minus_infinity), minus_infinity, hn::Add(score, bounded));
  });
}

// Adds -slope * |key - position|; the tile's first key is `offset` after the position. Exact up to 2^24
// tokens.
HWY_INLINE void AddAlibi(float* scores, const RowKeys& row, float slope, int64_t offset) {
  const V lanes = hn::Iota(kFloats, 0);
  const V factor = hn::Set(kFloats, slope);
  ForEachScore(scores, row.begin, row.end, [&](V score, int64_t key, int64_t) HWY_ATTR {
    const V distance = hn::Abs(hn::Add(hn::Set(kFloats, static_cast<float>(offset + key)), lanes));
    return hn::NegMulAdd(factor, distance, score);
  });
}

HWY_INLINE void AddConstant(float* scores, int64_t begin, int64_t end, float term) {
  ForEachScore(scores, begin, end,
               [&](V score, int64_t, int64_t) HWY_ATTR { return hn::Add(score, hn::Set(kFloats, term)); });
}

// Adds the bias of each distance; the tile's first key is `offset` after the position.
HWY_INLINE void AddDistanceBias(float* scores, const RowKeys& row, const float* bias, int64_t max_distance,
                                int64_t offset) {
  const int64_t near = std::clamp(-max_distance - offset, row.begin, row.end);
  const int64_t far = std::clamp(max_distance - offset, near, row.end);
  AddConstant(scores, row.begin, near, bias[-max_distance]);
  ForEachScore(scores, near, far, [&](V score, int64_t key, int64_t count) HWY_ATTR {
    const float* const from = bias + offset + key;
    const V term =
        count == kStep ? hn::LoadU(kFloats, from) : hn::LoadN(kFloats, from, static_cast<size_t>(count));
    return hn::Add(score, term);
  });
  AddConstant(scores, far, row.end, bias[max_distance]);
}

// Adds what queries and keys have to say of the distance between them.
HWY_INLINE void AddDistanceScores(float* scores, const RowKeys& row, const DistanceScores& distances,
                                  int64_t query, int64_t first_key, int64_t offset) {
  const hn::RebindToSigned<Floats> integers;
  const float* const of_query =
      distances.of_queries == nullptr
          ? nullptr
          : distances.of_queries + (query - distances.first_query) * distances.stride;
  const auto apart =
      hn::Mul(hn::Iota(integers, 0), hn::Set(integers, static_cast<int32_t>(distances.stride)));
  ForEachScore(scores, row.begin, row.end, [&](V score, int64_t key, int64_t count) HWY_ATTR {
    const int32_t* const from = distances.cols + offset + key;
    const auto cols =
        count == kStep ? hn::LoadU(integers, from) : hn::LoadN(integers, from, static_cast<size_t>(count));
    if (of_query != nullptr) score = hn::Add(score, hn::GatherIndex(kFloats, of_query, cols));
    if (distances.of_keys != nullptr) {
      const float* const of_key = distances.of_keys + (first_key + key) * distances.stride;
      score = hn::Add(score, hn::GatherIndex(kFloats, of_key, hn::Add(cols, apart)));
    }
    return score;
  });
}

HWY_INLINE float RowMax(const float* scores, int64_t keys) {
  V max = hn::Set(kFloats, kMinusInfinity);
  for (int64_t key = 0; key < keys; key += kStep) max = MaxOrSecond(max, hn::LoadU(kFloats, scores + key));
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
  const auto factor = static_cast<float>(std::exp2(static_cast<double>(old - max)));
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

// What becomes of the scores of a row.
template <typename T>
struct Exponentials {
  V reference;
  const float* scores;
  T* out;
};

// The exponentials of kVectors registers of a panel, kLanes keys apart from `key` on; added to `sum` as those
// of a whole panel are, whose others are 0.
template <bool kWithExponents, int kVectors, typename T>
HWY_INLINE void ExpPanel(const Exponentials<T>& row, int64_t key, V& sum, V& exponent_sum) {
  V e[4] = {hn::Zero(kFloats), hn::Zero(kFloats), hn::Zero(kFloats), hn::Zero(kFloats)};
  V exponents = hn::Zero(kFloats);
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const V x = hn::Sub(hn::LoadU(kFloats, row.scores + key + v * kLanes), row.reference);
    e[v] = Exp2<T>(x);
    StoreAs(e[v], row.out + key + v * kLanes);
    if constexpr (kWithExponents) exponents = AddExponent(e[v], x, exponents);
  }
  sum = hn::Add(sum, hn::Add(hn::Add(e[0], e[1]), hn::Add(e[2], e[3])));
  if constexpr (kWithExponents) exponent_sum = hn::Add(exponent_sum, exponents);
}

// out = 2^(scores - reference), and their sum by lanes: of each panel by itself, added to what was there;
// and, if it is wanted, the same of the elements times their exponents.
template <bool kWithExponents, typename T>
HWY_INLINE void ExpRow(const float* scores, int64_t keys, float reference, T* out, float* sum,
                       float* exponent_sum) {
  static_assert(kReferenceKeys == 4 * kLanes);
  const Exponentials<T> row{hn::Set(kFloats, reference), scores, out};
  for (int64_t lane = 0; lane < kLanes; lane += kStep) {
    V total = hn::LoadU(kFloats, sum + lane), exponents = hn::Zero(kFloats);
    if constexpr (kWithExponents) exponents = hn::LoadU(kFloats, exponent_sum + lane);
    int64_t key = 0;
    for (; key + kReferenceKeys <= keys; key += kReferenceKeys) {
      ExpPanel<kWithExponents, 4>(row, key + lane, total, exponents);
    }
    switch ((keys - key) / kLanes) {
      case 1:
        ExpPanel<kWithExponents, 1>(row, key + lane, total, exponents);
        break;
      case 2:
        ExpPanel<kWithExponents, 2>(row, key + lane, total, exponents);
        break;
      case 3:
        ExpPanel<kWithExponents, 3>(row, key + lane, total, exponents);
        break;
      default:
        break;
    }
    hn::StoreU(total, kFloats, sum + lane);
    if constexpr (kWithExponents) hn::StoreU(exponents, kFloats, exponent_sum + lane);
  }
}

// Scores of one row of a tile with all rules applied; the padding up to padded_keys is forbidden. Settles the
// row's reference.
HWY_INLINE void ApplyRules(const ScoreRules& rules, int64_t query, int64_t first_key, int64_t keys,
                           int64_t padded_keys, const SoftmaxState& state, int64_t row, float* scores) {
  const RowKeys seen = KeysOf(rules, query, first_key, keys);
  const int64_t offset = first_key - (query + rules.kv_len - rules.q_len);
  if (rules.distance_scores.cols != nullptr) {
    AddDistanceScores(scores, seen, rules.distance_scores, query, first_key, offset);
  }
  if (rules.softcap != 0.0f) SoftcapRow(scores, keys, rules.softcap);
  std::fill(scores, scores + seen.begin, kMinusInfinity);
  std::fill(scores + seen.end, scores + seen.own, kMinusInfinity);
  std::fill(scores + keys, scores + padded_keys, kMinusInfinity);
  const bool by_numbers = rules.mask.dtype == DType::kF32 && !rules.mask.empty();
  const uint8_t* mask = nullptr;
  if (!rules.mask.empty()) {
    mask = static_cast<const uint8_t*>(rules.mask.data) +
           (rules.head * rules.mask.head_stride + query * rules.mask.query_stride + first_key) *
               SizeOf(rules.mask.dtype);
    if (!by_numbers) ForbidByBooleans(scores, seen, mask);
  }
  if (!state.exact && state.reference[row] == kMinusInfinity) {
    if (by_numbers) ForbidByNumbers(scores, seen, mask);
    state.reference[row] = FirstMax(scores, padded_keys);
  }
  if (rules.alibi_slope != 0.0f) {
    AddAlibi(scores, seen, rules.alibi_slope, offset);
  }
  if (rules.distance_bias != nullptr) {
    AddDistanceBias(scores, seen, rules.distance_bias, rules.max_distance, offset);
  }
  if (by_numbers) AddNumbers(scores, seen, mask);
  if (!state.exact) return;
  const float max = RowMax(scores, padded_keys);
  if (max > state.reference[row]) RaiseReference(state, row, max);
}

template <typename T>
HWY_INLINE void SoftmaxTileAs(const ScoreTile<T>& tile, const ScoreRules& rules, const SoftmaxState& state) {
  const int64_t keys = tile.scores.cols;
  const int64_t padded_keys = RoundUp(keys, kGranule<T>);  // what the product with the values reads
  for (int64_t row = 0; row < tile.scores.rows; ++row) {
    float* scores = tile.scores.Row(row);
    ApplyRules(rules, tile.query[row], tile.first_key, keys, padded_keys, state, row, scores);
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
  Lanes sums[4];
  for (int64_t r = 0; r < 4; ++r) {
    const float* lanes = partial_sums + std::min(row + r, rows - 1) * kLanes;
    for (int64_t p = 0; p < kParts; ++p) sums[r][p] = hn::LoadU(kFloats, lanes + p * kStep);
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

int64_t FinishTheSums(const SoftmaxState& state, int64_t rows, float* sums, float* inverses,
                      int64_t* unsafe) {
  bool all_safe = true;
  for (int64_t row = 0; row < rows; row += 4) {
    const V4 sum = SumOfFourRows(state.sum, row, rows);
    const V4 inverse = hn::Div(hn::Set(kFourFloats, 1.0f), sum);
    StoreRows(sum, row, rows, sums);
    StoreRows(hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(kFourFloats)), inverse), row, rows, inverses);
    // Sums of NaN are not safe either.
    all_safe &= hn::AllTrue(kFourFloats, hn::And(hn::Lt(sum, hn::Set(kFourFloats, kLargestSum)),
                                                 hn::Gt(sum, hn::Set(kFourFloats, kSmallestSum))));
  }
  if (state.exact || (all_safe && AreFinite(state.acc.data, rows * state.acc.cols))) return 0;
  int64_t num_unsafe = 0;
  for (int64_t row = 0; row < rows; ++row) {
    if (state.reference[row] == kMinusInfinity) continue;  // it saw nothing
    const bool is_safe = sums[row] < kLargestSum && sums[row] > kSmallestSum;
    if (!is_safe || !AreFinite(state.acc.Row(row), state.acc.cols)) unsafe[num_unsafe++] = row;
  }
  return num_unsafe;
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
    for (; col < out.cols; ++col) to[col] = FromFloat<T>(acc[col] * factor);
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

void BeginSoftmax(const SoftmaxState& state, int64_t rows) {
  std::fill_n(state.reference, rows, -std::numeric_limits<float>::infinity());
  for (float* sum : {state.sum, state.exponent_sum}) {
    if (sum != nullptr) std::fill_n(sum, rows * kLanes, 0.0f);
  }
  std::fill_n(state.acc.data, state.acc.rows * state.acc.stride, 0.0f);
}

void AddSink(const SoftmaxState& state, int64_t rows, float sink) {
  // Beyond it the weights of the keys are 0 in f32, and what follows had better be finite.
  constexpr float kLargestExponent = 120.0f;
  for (int64_t row = 0; row < rows; ++row) {
    if (state.reference[row] == -std::numeric_limits<float>::infinity()) continue;  // it saw nothing
    const auto exponent = static_cast<double>(std::min(sink - state.reference[row], kLargestExponent));
    const auto term = static_cast<float>(std::exp2(exponent));
    float* const sum = state.sum + row * kLanes;
    sum[0] += term;
    if (state.exponent_sum == nullptr) continue;
    // An entropy is made of the sums as if all terms were weights: ln S - ln 2 / S * exponent_sum. This takes
    // the share of the sink out of the first part.
    double total = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) total += sum[lane];
    state.exponent_sum[row * kLanes] += static_cast<float>(term * std::log2(total));
  }
}

void SumRows(const float* partial_sums, int64_t rows, float* out) {
  HWY_DYNAMIC_DISPATCH(SumOfRows)(partial_sums, rows, out);
}

int64_t FinishSums(const SoftmaxState& state, int64_t rows, float* sums, float* inverses, int64_t* unsafe) {
  return HWY_DYNAMIC_DISPATCH(FinishTheSums)(state, rows, sums, inverses, unsafe);
}

void Normalise(const SoftmaxState& state, const float* inverses, BasicMatrixView<float> out) {
  HWY_DYNAMIC_DISPATCH(NormaliseF32)(state, inverses, out);
}

void Normalise(const SoftmaxState& state, const float* inverses, BasicMatrixView<Bf16> out) {
  HWY_DYNAMIC_DISPATCH(NormaliseBf16)(state, inverses, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
