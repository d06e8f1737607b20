// SPDX-License-Identifier: Apache-2.0
#include "core/attention/maps/map_top_k.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "core/simd/targets.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/maps/map_top_k.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

using Integers = hn::RebindToSigned<Floats>;
constexpr Integers kIntegers;
constexpr int64_t kAhead = 16;  // rows
// Keys that are looked at before a branch, and weights that are sorted without one.
constexpr int64_t kGroup = 64;
constexpr int64_t kMaxGroups = 512;  // whose maxima are kept: 32 KiB

// A weight and its key as one number: the bits of the weight above those of the key's complement. Positive
// floating-point numbers are ordered as their bits are, so the larger of two pairs is that of the larger
// weight, or of equal weights that of the earlier key. Pairs of weight 0 are padding.
using Pairs = hn::Repartition<double, Floats>;
using P = hn::Vec<Pairs>;
constexpr Pairs kPairs;
constexpr int64_t kPairLanes = hn::MaxLanes(kPairs);

// Groups of a row: none crosses the border of two tiles.
template <typename T>
HWY_INLINE int64_t NumGroups(const WeightTiles<T>& tiles) {
  return (tiles.end_key - tiles.first_key + kGroup - 1) / kGroup;
}

// Keys of a tile in whole registers; zeros follow the tile's own.
template <typename T>
HWY_INLINE int64_t PaddedKeys(const WeightTiles<T>& tiles, int64_t tile) {
  return RoundUp(tiles.NumKeys(tile), kLanes);
}

// A number below which no weight needs to be looked at, since k weights of the row are larger: just below the
// k-th largest of the maxima of kMaxima disjoint parts of it, each of which is a weight of its own; 0 if
// there are fewer. Requires k <= kMaxima. Unless it is null, group_maxima becomes the maxima of each lane of
// each group of keys, [groups, kStep].
template <int64_t kMaxima, typename T>
HWY_INLINE V BelowTopK(const WeightTiles<T>& tiles, int64_t row, int64_t k, float* group_maxima) {
  constexpr int64_t kVectors = kMaxima / kStep;
  V max[kVectors];
  for (V& m : max) m = hn::Zero(kFloats);
  for (int64_t tile = 0; tile < tiles.num_tiles(); ++tile) {
    const T* e = tiles.Row(tile, row);
    const int64_t keys = PaddedKeys(tiles, tile);
    const V factor = hn::Set(kFloats, tiles.Factor(tile, row));
    for (int64_t group = 0; group < keys; group += kGroup) {
      V of_group[kVectors];
      for (V& m : of_group) m = hn::Zero(kFloats);
      if (group + kGroup <= keys) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < kGroup; i += kStep) {
          V& m = of_group[i / kStep % kVectors];
          m = hn::Max(m, LoadAs(e + group + i));
        }
      } else {
        for (int64_t i = group; i < keys; i += kStep) of_group[0] = hn::Max(of_group[0], LoadAs(e + i));
      }
      // Rounding keeps the order, so that a product of the maximum is the maximum of the products.
      V of_all = hn::Zero(kFloats);
      for (int64_t v = 0; v < kVectors; ++v) {
        of_group[v] = hn::Mul(of_group[v], factor);
        max[v] = hn::Max(max[v], of_group[v]);
        of_all = hn::Max(of_all, of_group[v]);
      }
      if (group_maxima == nullptr) continue;
      hn::Store(of_all, kFloats, group_maxima);
      group_maxima += kStep;
    }
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

// At most kGroup weights of a row, each an exponential times the factor.
template <typename T>
struct FewWeights {
  const T* exponentials;  // zeros, or what does not matter, behind the last one up to whole registers
  float factor;
  const int32_t* key_complements;
  int64_t count;
};

// Weights of a row that may be among the largest, in the order of their keys.
struct Candidates {
  HWY_ALIGN float weights[2 * kGroup + kStep];
  HWY_ALIGN int32_t key_complements[2 * kGroup + kStep];
  int64_t count;
};

// Collects the weights above `below`, until there are more than kGroup.
template <typename T>
HWY_INLINE void Collect(const WeightTiles<T>& tiles, int64_t row, V below, const float* group_maxima,
                        Candidates& candidates) {
  const int64_t num_groups = NumGroups(tiles);
  int64_t count = 0;
  for (int64_t first = 0; first < num_groups && count <= kGroup; first += 64) {
    // Which groups hold some is known before the first of them is read: a branch for each would be
    // mispredicted.
    uint64_t groups = 0;
    for (int64_t i = 0; i < std::min<int64_t>(64, num_groups - first); ++i) {
      const auto above = hn::Gt(hn::Load(kFloats, group_maxima + (first + i) * kStep), below);
      groups |= uint64_t{!hn::AllFalse(kFloats, above)} << i;
    }
    for (; groups != 0 && count <= kGroup; groups &= groups - 1) {
      const int64_t group = first + std::countr_zero(groups);
      const int64_t tile = tiles.TileOf(tiles.first_key + group * kGroup);
      const int64_t begin = tiles.first_key + group * kGroup - tiles.FirstKey(tile);
      const int64_t end = std::min(begin + kGroup, PaddedKeys(tiles, tile));
      const T* e = tiles.Row(tile, row);
      const V factor = hn::Set(kFloats, tiles.Factor(tile, row));
      const auto first_keys = hn::Iota(kIntegers, static_cast<int32_t>(tiles.FirstKey(tile)));
      for (int64_t i = begin; i < end; i += kStep) {
        const V weights = hn::Mul(LoadAs(e + i), factor);
        const auto mask = hn::Gt(weights, below);
        const auto complements = hn::Not(hn::Add(first_keys, hn::Set(kIntegers, static_cast<int32_t>(i))));
        hn::StoreU(hn::Compress(weights, mask), kFloats, candidates.weights + count);
        hn::StoreU(hn::Compress(complements, hn::RebindMask(kIntegers, mask)), kIntegers,
                   candidates.key_complements + count);
        count += static_cast<int64_t>(hn::CountTrue(kFloats, mask));
      }
    }
  }
  hn::StoreU(hn::Zero(kFloats), kFloats, candidates.weights + count);
  candidates.count = count;
}

// The kRanks largest pairs of each lane, largest first.
constexpr int64_t kRanks = 8;
using Ranking = P[kRanks];

HWY_INLINE void Order(P& first, P& second) {
  const P larger = hn::Max(first, second);
  second = hn::Min(first, second);
  first = larger;
}

// Sorts each lane. The network is the smallest known for 8 numbers, 19 comparisons (Knuth, The Art of
// Computer Programming 3, 5.3.4).
HWY_INLINE void Sort(Ranking& lanes) {
  constexpr int kNetwork[19][2] = {{0, 2}, {1, 3}, {4, 6}, {5, 7}, {0, 4}, {1, 5}, {2, 6},
                                   {3, 7}, {0, 1}, {2, 3}, {4, 5}, {6, 7}, {2, 4}, {3, 5},
                                   {1, 4}, {3, 6}, {1, 2}, {3, 4}, {5, 6}};
#pragma GCC unroll 19
  for (const auto& [first, second] : kNetwork) Order(lanes[first], lanes[second]);
}

// lanes = the largest of both, sorted. The larger ones of a sorted list and another one backwards rise and
// fall once, which Batcher's merge puts in order.
HWY_INLINE void KeepLargest(const Ranking& others, Ranking& lanes) {
#pragma GCC unroll 8
  for (int64_t i = 0; i < kRanks; ++i) lanes[i] = hn::Max(lanes[i], others[kRanks - 1 - i]);
#pragma GCC unroll 3
  for (int64_t distance = kRanks / 2; distance > 0; distance /= 2) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < kRanks; ++i) {
      if ((i & distance) == 0) Order(lanes[i], lanes[i + distance]);
    }
  }
}

// lanes = the largest weights of a row, spread over all lanes.
template <typename T>
HWY_INLINE void RankWithinLanes(const FewWeights<T>& row, Ranking& lanes) {
  const V factor = hn::Set(kFloats, row.factor);
  constexpr int64_t kAtOnce = kRanks / 2 * kStep;
#pragma GCC unroll 4
  for (int64_t begin = 0; begin < kGroup; begin += kAtOnce) {
    Ranking more;
    Ranking& sorted = begin == 0 ? lanes : more;
#pragma GCC unroll 4
    for (int64_t i = 0; i < kRanks; i += 2) {
      const int64_t at = begin + i / 2 * kStep;
      V weights = hn::Zero(kFloats);
      if (at < row.count) {
        const V products = hn::Mul(LoadAs(row.exponentials + at), factor);
        weights = hn::IfThenElseZero(hn::Gt(products, hn::Zero(kFloats)), products);  // not NaN either
      }
      const auto high = hn::BitCast(kIntegers, weights);
      const auto low = hn::LoadU(kIntegers, row.key_complements + at);
      sorted[i] = hn::BitCast(kPairs, hn::InterleaveLower(low, high));
      sorted[i + 1] = hn::BitCast(kPairs, hn::InterleaveUpper(kIntegers, low, high));
    }
    Sort(sorted);
    if (begin > 0) KeepLargest(more, lanes);
  }
}

// Which of 8 rows ends up in each lane.
constexpr int64_t kRowOfLane[8] = {0, 1, 4, 5, 2, 3, 6, 7};

// lanes = the largest weights of kRows rows, a row in kPairLanes / kRows lanes: two halves of the rows share
// their registers, the lanes of a row in one half against those in the other.
template <int64_t kRows, typename T>
HWY_INLINE void RankRows(const FewWeights<T>* rows, Ranking& lanes) {
  if constexpr (kRows == 1) {
    RankWithinLanes(*rows, lanes);
  } else {
    Ranking others;
    RankRows<kRows / 2>(rows, lanes);
    RankRows<kRows / 2>(rows + kRows / 2, others);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kRanks; ++i) {
      const P a = lanes[i];
      const P b = others[i];
      if constexpr (kRows == 2) {
        lanes[i] = hn::InterleaveLower(a, b);
        others[i] = hn::InterleaveUpper(kPairs, a, b);
      } else if constexpr (kRows == 4) {
        lanes[i] = hn::ConcatLowerLower(kPairs, b, a);
        others[i] = hn::ConcatUpperUpper(kPairs, b, a);
      } else {
        static_assert(kRows == 8);
        lanes[i] = hn::OddEvenBlocks(b, a);
        others[i] = hn::SwapAdjacentBlocks(hn::OddEvenBlocks(a, b));
      }
    }
    KeepLargest(others, lanes);
  }
}

// The k <= kRanks largest of each of kPairLanes rows, of which the first num_rows are wanted.
template <typename T>
HWY_INLINE void WriteLargest(const FewWeights<T>* rows, int64_t num_rows, int64_t k, float* weights,
                             int32_t* keys, int64_t stride) {
  Ranking lanes;
  RankRows<kPairLanes>(rows, lanes);
  constexpr int64_t kHalf = kRanks / 2;
  HWY_ALIGN double pairs[2][kPairLanes][kHalf];
  for (int64_t half = 0; half < 2; ++half) {
    const P* of_half = lanes + half * kHalf;
    hn::StoreInterleaved4(of_half[0], of_half[1], of_half[2], of_half[3], kPairs, pairs[half][0]);
  }
  const hn::CappedTag<int32_t, kRanks> words;
  const hn::RebindToFloat<decltype(words)> floats;
  constexpr int64_t kAtOnce = hn::MaxLanes(words);
  for (int64_t row = 0; row < num_rows; ++row) {
#pragma GCC unroll 2
    for (int64_t i = 0; i < kRanks; i += kAtOnce) {
      const auto load = [&](int64_t rank) HWY_ATTR {
        return hn::LoadU(words, reinterpret_cast<const int32_t*>(&pairs[rank / kHalf][row][rank % kHalf]));
      };
      const auto first = load(i);
      const auto second = load(i + kAtOnce / 2);
      const auto w = hn::ConcatOdd(words, second, first);
      const auto key = hn::Not(hn::ConcatEven(words, second, first));
      const auto none = hn::Eq(w, hn::Zero(words));
      const auto count = static_cast<size_t>(std::max<int64_t>(0, k - i));
      hn::StoreN(hn::BitCast(floats, w), floats, weights + row * stride + i, count);
      hn::StoreN(hn::IfThenElse(none, hn::Set(words, -1), key), words, keys + row * stride + i, count);
    }
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

template <typename T>
HWY_INLINE void SelectTopKAs(const WeightTiles<T>& tiles, int64_t first_row, int64_t end_row,
                             const TopKLists& lists) {
  const int64_t k = lists.k;
  const auto weights = [&](int64_t row) { return lists.weights + (row - first_row) * lists.stride; };
  const auto keys = [&](int64_t row) { return lists.keys + (row - first_row) * lists.stride; };
  if (k > kRanks || NumGroups(tiles) > kMaxGroups) {
    for (int64_t row = first_row; row < end_row; ++row) {
      const V below = k <= 32 ? BelowTopK<64>(tiles, row, k, nullptr) : hn::Zero(kFloats);
      InsertAll(tiles, row, below, k, weights(row), keys(row));
    }
    return;
  }
  const int64_t num_keys = tiles.end_key - tiles.first_key;
  HWY_ALIGN float group_maxima[kMaxGroups * kStep];
  HWY_ALIGN int32_t all_complements[kGroup];
  for (int64_t i = 0; i < kGroup; ++i) all_complements[i] = ~static_cast<int32_t>(tiles.first_key + i);
  for (int64_t first = first_row; first < end_row; first += kPairLanes) {
    const int64_t rows = std::min(kPairLanes, end_row - first);
    // Where lists go is not in the caches.
    for (int64_t r = 0; r < rows; ++r) {
      __builtin_prefetch(weights(first + r) + kAhead * lists.stride, 1);
      __builtin_prefetch(keys(first + r) + kAhead * lists.stride, 1);
    }
    const auto row_at = [&](int64_t lane) {
      const int64_t place = kPairLanes == 8 ? kRowOfLane[lane] : lane;
      return first + std::min(place, rows - 1);
    };
    if (num_keys <= kGroup) {
      FewWeights<T> few[kPairLanes];
      for (int64_t lane = 0; lane < kPairLanes; ++lane) {
        few[lane] = {tiles.Row(0, row_at(lane)), tiles.Factor(0, row_at(lane)), all_complements, num_keys};
      }
      WriteLargest(few, rows, k, weights(first), keys(first), lists.stride);
      continue;
    }
    V below[kPairLanes];
    Candidates candidates[kPairLanes];
    FewWeights<float> few[kPairLanes];
    for (int64_t r = 0; r < rows; ++r) {
      below[r] = BelowTopK<16>(tiles, first + r, k, group_maxima);
      Collect(tiles, first + r, below[r], group_maxima, candidates[r]);
    }
    for (int64_t lane = 0; lane < kPairLanes; ++lane) {
      const Candidates& c = candidates[row_at(lane) - first];
      few[lane] = {c.weights, 1.0f, c.key_complements, std::min(c.count, kGroup)};
    }
    WriteLargest(few, rows, k, weights(first), keys(first), lists.stride);
    for (int64_t r = 0; r < rows; ++r) {
      if (candidates[r].count <= kGroup) continue;
      InsertAll(tiles, first + r, below[r], k, weights(first + r), keys(first + r));
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
