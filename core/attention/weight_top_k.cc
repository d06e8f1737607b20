// SPDX-License-Identifier: Apache-2.0
#include "core/attention/weight_top_k.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "core/attention/simd.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/weight_top_k.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/attention/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

using Integers = hn::RebindToSigned<Floats>;
constexpr Integers kIntegers;
// Keys that are looked at before a branch.
constexpr int64_t kGroup = 64;
constexpr int64_t kAhead = 16;  // rows
// Candidates that are sorted without a branch.
constexpr int64_t kMaxCandidates = kLanes;

// Keys of a tile in whole registers; zeros follow the tile's own.
template <typename T>
HWY_INLINE int64_t PaddedKeys(const WeightTiles<T>& tiles, int64_t tile) {
  return RoundUp(tiles.NumKeys(tile), kLanes);
}

// A number below which no weight needs to be looked at, since k weights of the row are larger: just below the
// k-th largest of the maxima of kMaxima disjoint parts of it, each of which is a weight of its own; 0 if
// there are fewer. Requires k <= kMaxima.
template <int64_t kMaxima, typename T>
HWY_INLINE V BelowTopK(const WeightTiles<T>& tiles, int64_t row, int64_t k) {
  constexpr int64_t kVectors = kMaxima / kStep;
  V max[kVectors];
  for (V& m : max) m = hn::Zero(kFloats);
  for (int64_t tile = 0; tile < tiles.num_tiles(); ++tile) {
    const T* e = tiles.Row(tile, row);
    const int64_t keys = PaddedKeys(tiles, tile);
    V of_tile[kVectors];
    for (V& m : of_tile) m = hn::Zero(kFloats);
    int64_t i = 0;
    for (; i + kMaxima <= keys; i += kMaxima) {
      for (int64_t v = 0; v < kVectors; ++v) of_tile[v] = hn::Max(of_tile[v], LoadAs(e + i + v * kStep));
    }
    for (; i < keys; i += kStep) of_tile[0] = hn::Max(of_tile[0], LoadAs(e + i));
    // Rounding keeps the order, so that a product of the maximum is the maximum of the products.
    const V factor = hn::Set(kFloats, tiles.Factor(tile, row));
    for (int64_t v = 0; v < kVectors; ++v) max[v] = hn::Max(max[v], hn::Mul(of_tile[v], factor));
  }
  HWY_ALIGN float maxima[kMaxima];
  for (int64_t v = 0; v < kVectors; ++v) hn::Store(max[v], kFloats, maxima + v * kStep);
  // Those with fewer than k larger ones; the smallest of them. Counting has no branches to mispredict.
  const auto one = hn::Set(kIntegers, 1);
  V reached = hn::Set(kFloats, std::numeric_limits<float>::infinity());
  for (int64_t v = 0; v < kVectors; ++v) {
    auto larger = hn::Zero(kIntegers);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kMaxima; ++i) {
      const auto is_larger = hn::RebindMask(kIntegers, hn::Gt(hn::Set(kFloats, maxima[i]), max[v]));
      larger = hn::MaskedAddOr(larger, is_larger, larger, one);
    }
    const auto counts = hn::Lt(larger, hn::Set(kIntegers, static_cast<int32_t>(k)));
    reached = hn::IfThenElse(hn::RebindMask(kFloats, counts), hn::Min(reached, max[v]), reached);
  }
  const V least = hn::MinOfLanes(kFloats, reached);
  const V below = hn::BitCast(kFloats, hn::Sub(hn::BitCast(kIntegers, least), one));
  return hn::IfThenElseZero(hn::Gt(least, hn::Zero(kFloats)), below);
}

// Weights of a row that may be among the largest, in the order of their keys.
struct Candidates {
  HWY_ALIGN float weights[kMaxCandidates + kGroup];
  HWY_ALIGN int32_t keys[kMaxCandidates + kGroup];
  int64_t count;
};

// Collects the weights above `below`, until there are more than kMaxCandidates.
template <typename T>
HWY_INLINE void Collect(const WeightTiles<T>& tiles, int64_t row, V below, Candidates& candidates) {
  int64_t count = 0;
  for (int64_t tile = 0; tile < tiles.num_tiles() && count <= kMaxCandidates; ++tile) {
    const T* e = tiles.Row(tile, row);
    const int64_t keys = PaddedKeys(tiles, tile);
    const V factor = hn::Set(kFloats, tiles.Factor(tile, row));
    const auto first_keys = hn::Iota(kIntegers, static_cast<int32_t>(tiles.FirstKey(tile)));
    const auto take = [&](int64_t i, V weights, auto mask) HWY_ATTR {
      const auto its_keys = hn::Add(first_keys, hn::Set(kIntegers, static_cast<int32_t>(i)));
      hn::StoreU(hn::Compress(weights, mask), kFloats, candidates.weights + count);
      hn::StoreU(hn::Compress(its_keys, hn::RebindMask(kIntegers, mask)), kIntegers, candidates.keys + count);
      count += static_cast<int64_t>(hn::CountTrue(kFloats, mask));
    };
    const auto weights_at = [&](int64_t i) HWY_ATTR { return hn::Mul(LoadAs(e + i), factor); };
    int64_t i = 0;
    for (; i + kGroup <= keys && count <= kMaxCandidates; i += kGroup) {
      V max = weights_at(i);
      for (int64_t j = kStep; j < kGroup; j += kStep) max = hn::Max(max, weights_at(i + j));
      if (hn::AllFalse(kFloats, hn::Gt(max, below))) continue;
      for (int64_t j = 0; j < kGroup; j += kStep) {
        const V weights = weights_at(i + j);
        take(i + j, weights, hn::Gt(weights, below));
      }
    }
    for (; i < keys && count <= kMaxCandidates; i += kStep) {
      const V weights = weights_at(i);
      take(i, weights, hn::Gt(weights, below));
    }
  }
  candidates.count = count;
}

// Puts each candidate of the k largest where it belongs, which is after those that are larger, and after
// equal ones before it.
HWY_INLINE void Rank(const Candidates& candidates, int64_t k, float* weights, int32_t* keys) {
  // From element kLanes - 1 - i on: -1 for the lanes after lane i.
  HWY_ALIGN static constexpr int32_t kLater[2 * kLanes] = {0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
                                                           0,  0,  0,  0,  0,  -1, -1, -1, -1, -1, -1,
                                                           -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
  HWY_ALIGN int32_t all_bits[kLanes];  // the order of positive numbers is that of their bits
  for (int64_t lane = 0; lane < kLanes; lane += kStep) {
    const auto filled =
        hn::FirstN(kFloats, static_cast<size_t>(std::max<int64_t>(0, candidates.count - lane)));
    const V w = hn::IfThenElseZero(filled, hn::Load(kFloats, candidates.weights + lane));
    hn::Store(hn::BitCast(kIntegers, w), kIntegers, all_bits + lane);
  }
  const auto one = hn::Set(kIntegers, 1);
  for (int64_t lane = 0; lane < kLanes; lane += kStep) {
    const auto bits = hn::Load(kIntegers, all_bits + lane);
    auto rank = hn::Zero(kIntegers);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) {
      // Of integers, a > b - 1 means a >= b.
      const auto least = hn::Add(bits, hn::LoadU(kIntegers, kLater + kLanes - 1 - i + lane));
      rank = hn::MaskedAddOr(rank, hn::Gt(hn::Set(kIntegers, all_bits[i]), least), rank, one);
    }
    const auto is_top =
        hn::And(hn::Gt(bits, hn::Zero(kIntegers)), hn::Lt(rank, hn::Set(kIntegers, static_cast<int32_t>(k))));
    hn::MaskedScatterIndex(hn::Load(kFloats, candidates.weights + lane), hn::RebindMask(kFloats, is_top),
                           kFloats, weights, rank);
    hn::MaskedScatterIndex(hn::Load(kIntegers, candidates.keys + lane), is_top, kIntegers, keys, rank);
  }
  for (int64_t i = candidates.count; i < k; ++i) {
    weights[i] = 0.0f;
    keys[i] = -1;
  }
}

// Takes `weight` into the sorted list if it is larger than the last one; equal ones stay behind.
HWY_INLINE void Insert(float weight, int32_t key, int64_t k, float* weights, int32_t* keys) {
  if (!(weight > weights[k - 1])) return;
  int64_t place = k - 1;
  for (; place > 0 && weight > weights[place - 1]; --place) {
    weights[place] = weights[place - 1];
    keys[place] = keys[place - 1];
  }
  weights[place] = weight;
  keys[place] = key;
}

// Any number of weights above `below`, one after the other.
template <typename T>
void InsertAll(const WeightTiles<T>& tiles, int64_t row, V below, int64_t k, float* weights, int32_t* keys) {
  std::fill_n(weights, k, 0.0f);
  std::fill_n(keys, k, -1);
  HWY_ALIGN float of_step[kStep];
  for (int64_t tile = 0; tile < tiles.num_tiles(); ++tile) {
    const T* e = tiles.Row(tile, row);
    const int64_t padded_keys = PaddedKeys(tiles, tile);
    const V factor = hn::Set(kFloats, tiles.Factor(tile, row));
    for (int64_t i = 0; i < padded_keys; i += kStep) {
      const V w = hn::Mul(LoadAs(e + i), factor);
      const auto candidates = hn::Gt(w, below);
      if (hn::AllFalse(kFloats, candidates)) continue;
      hn::Store(w, kFloats, of_step);
      uint8_t bytes[8] = {};
      hn::StoreMaskBits(kFloats, candidates, bytes);
      uint64_t bits;
      std::memcpy(&bits, bytes, sizeof(bits));
      for (; bits != 0; bits &= bits - 1) {
        const int64_t lane = std::countr_zero(bits);
        Insert(of_step[lane], static_cast<int32_t>(tiles.FirstKey(tile) + i + lane), k, weights, keys);
      }
      below = hn::Max(below, hn::Set(kFloats, weights[k - 1]));
    }
  }
}

// Rows that go through each step together: a step is a chain of operations, and the CPU works on the rows'
// chains at the same time.
constexpr int64_t kRows = 4;

template <typename T>
HWY_INLINE void SelectTopKAs(const WeightTiles<T>& tiles, int64_t first_row, int64_t end_row,
                             const TopKLists& lists) {
  const int64_t k = lists.k;
  const auto weights = [&](int64_t row) { return lists.weights + (row - first_row) * lists.stride; };
  const auto keys = [&](int64_t row) { return lists.keys + (row - first_row) * lists.stride; };
  if (k > 8) {
    for (int64_t row = first_row; row < end_row; ++row) {
      const V below = k <= 32 ? BelowTopK<64>(tiles, row, k) : hn::Zero(kFloats);
      InsertAll(tiles, row, below, k, weights(row), keys(row));
    }
    return;
  }
  const bool all_are_candidates = tiles.end_key - tiles.first_key <= kMaxCandidates;
  for (int64_t first = first_row; first < end_row; first += kRows) {
    const int64_t rows = std::min(kRows, end_row - first);
    V below[kRows];
    Candidates candidates[kRows];
    for (int64_t r = 0; r < rows; ++r) {
      below[r] = all_are_candidates ? hn::Zero(kFloats) : BelowTopK<16>(tiles, first + r, k);
    }
    for (int64_t r = 0; r < rows; ++r) Collect(tiles, first + r, below[r], candidates[r]);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = first + r;
      // Where lists go is not in the caches.
      __builtin_prefetch(weights(row) + kAhead * lists.stride, 1);
      __builtin_prefetch(keys(row) + kAhead * lists.stride, 1);
      if (candidates[r].count <= kMaxCandidates) {
        Rank(candidates[r], k, weights(row), keys(row));
      } else {
        InsertAll(tiles, row, below[r], k, weights(row), keys(row));
      }
    }
  }
}

void SelectTopKF32(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row,
                   const TopKLists& lists) {
  SelectTopKAs(tiles, first_row, end_row, lists);
}

void SelectTopKBf16(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row,
                    const TopKLists& lists) {
  SelectTopKAs(tiles, first_row, end_row, lists);
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(SelectTopKF32);
HWY_EXPORT(SelectTopKBf16);

void SelectTopK(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row, const TopKLists& lists) {
  HWY_DYNAMIC_DISPATCH(SelectTopKF32)(tiles, first_row, end_row, lists);
}

void SelectTopK(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row, const TopKLists& lists) {
  HWY_DYNAMIC_DISPATCH(SelectTopKBf16)(tiles, first_row, end_row, lists);
}

}  // namespace headlight
#endif  // HWY_ONCE
