// SPDX-License-Identifier: Apache-2.0
#include "core/attention/maps/map_rows.h"

#include <algorithm>
#include <cstdint>

#include "core/simd/targets.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/maps/map_rows.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

constexpr int64_t kAheadBytes = 8192;

// Writes past the caches, in whole aligned registers: what is left of one row waits for the next if that
// follows it in memory. Lanes [begin, end) of `pending` belong at `at`.
struct Streamer {
  V pending;
  float* at;
  int64_t begin;
  int64_t end;
};

HWY_INLINE void Flush(Streamer& streamer) {
  if (streamer.begin == 0 && streamer.end == kStep) {
    hn::Stream(streamer.pending, kFloats, streamer.at);
  } else if (streamer.begin < streamer.end) {
    const auto lanes = hn::AndNot(hn::FirstN(kFloats, static_cast<size_t>(streamer.begin)),
                                  hn::FirstN(kFloats, static_cast<size_t>(streamer.end)));
    hn::BlendedStore(streamer.pending, lanes, kFloats, streamer.at);
  }
}

HWY_INLINE void MoveTo(float* out, Streamer& streamer) {
  if (out == streamer.at + streamer.end) return;
  Flush(streamer);
  constexpr auto kBytes = static_cast<uintptr_t>(kStep) * sizeof(float);
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) % kBytes / sizeof(float));
  streamer.at = out - past;
  streamer.begin = streamer.end = past;
}

// Appends the n elements that load(i) gives kStep at a time, from element i on; those beyond n do not matter.
template <typename Load>
HWY_INLINE void Append(int64_t n, const Load& load, Streamer& streamer) {
  int64_t i = 0;
  if (streamer.end > 0) {
    const V more = hn::SlideUpLanes(kFloats, load(0), static_cast<size_t>(streamer.end));
    const auto before = hn::FirstN(kFloats, static_cast<size_t>(streamer.end));
    streamer.pending = hn::IfThenElse(before, streamer.pending, more);
    i = std::min(n, kStep - streamer.end);
    streamer.end += i;
    if (streamer.end < kStep) return;
    Flush(streamer);
    streamer.at += kStep;
    streamer.begin = streamer.end = 0;
  }
  for (; i + kStep <= n; i += kStep, streamer.at += kStep) hn::Stream(load(i), kFloats, streamer.at);
  if (i == n) return;
  streamer.pending = load(i);
  streamer.end = n - i;
}

template <typename T>
HWY_INLINE void StreamRowsAs(const WeightTiles<T>& tiles, int64_t first_row, int64_t end_row,
                             const RowsOfWeights& out) {
  Streamer streamer = {hn::Zero(kFloats), nullptr, 0, 0};
  const auto zeros = [](int64_t) HWY_ATTR { return hn::Zero(kFloats); };
  for (int64_t row = first_row; row < end_row; ++row) {
    MoveTo(out.data + (row - first_row) * out.stride, streamer);
    Append(tiles.first_key, zeros, streamer);
    for (int64_t tile = 0; tile < tiles.num_tiles(); ++tile) {
      const T* e = tiles.Row(tile, row);
      const V f = hn::Set(kFloats, tiles.Factor(tile, row));
      Append(
          tiles.NumKeys(tile), [&](int64_t i) HWY_ATTR { return hn::Mul(LoadAs(e + i), f); }, streamer);
    }
    Append(out.num_keys - tiles.end_key, zeros, streamer);
  }
  Flush(streamer);
}

// The end of a tile is ragged, and so is its part of `out`.
template <bool kAdd, typename T>
HWY_INLINE void ScaleTile(const T* e, int64_t n, float factor, float* out) {
  const V f = hn::Set(kFloats, factor);
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    const V weights = hn::Mul(LoadAs(e + i), f);
    if constexpr (kAdd) {
      // The sums of other heads have left the caches, and rows are too short for the hardware to foresee.
      const auto ahead = reinterpret_cast<uintptr_t>(out + i) + kAheadBytes;
      __builtin_prefetch(reinterpret_cast<const void*>(ahead), 1);
      hn::StoreU(hn::Add(hn::LoadU(kFloats, out + i), weights), kFloats, out + i);
    } else {
      hn::StoreU(weights, kFloats, out + i);
    }
  }
  if (i == n) return;
  const auto left = static_cast<size_t>(n - i);
  const V weights = hn::Mul(LoadAs(e + i), f);
  hn::StoreN(kAdd ? hn::Add(hn::LoadN(kFloats, out + i, left), weights) : weights, kFloats, out + i, left);
}

template <typename T>
HWY_INLINE void AddRowsAs(const WeightTiles<T>& tiles, int64_t first_row, int64_t end_row, float share,
                          bool is_first, const RowsOfWeights& out) {
  for (int64_t row = first_row; row < end_row; ++row) {
    float* const to = out.data + (row - first_row) * out.stride;
    if (is_first) {
      std::fill(to, to + tiles.first_key, 0.0f);
      std::fill(to + tiles.end_key, to + out.num_keys, 0.0f);
    }
    for (int64_t tile = 0; tile < tiles.num_tiles(); ++tile) {
      const T* e = tiles.Row(tile, row);
      const float factor = tiles.Factor(tile, row) * share;
      float* const of_tile = to + tiles.FirstKey(tile);
      if (is_first) {
        ScaleTile<false>(e, tiles.NumKeys(tile), factor, of_tile);
      } else {
        ScaleTile<true>(e, tiles.NumKeys(tile), factor, of_tile);
      }
    }
  }
}

void StreamRowsF32(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row,
                   const RowsOfWeights& out) {
  StreamRowsAs(tiles, first_row, end_row, out);
}

void StreamRowsBf16(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row,
                    const RowsOfWeights& out) {
  StreamRowsAs(tiles, first_row, end_row, out);
}

void AddRowsF32(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row, float share,
                bool is_first, const RowsOfWeights& out) {
  AddRowsAs(tiles, first_row, end_row, share, is_first, out);
}

void AddRowsBf16(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row, float share,
                 bool is_first, const RowsOfWeights& out) {
  AddRowsAs(tiles, first_row, end_row, share, is_first, out);
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(StreamRowsF32);
HWY_EXPORT(StreamRowsBf16);
HWY_EXPORT(AddRowsF32);
HWY_EXPORT(AddRowsBf16);

void StreamRows(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row,
                const RowsOfWeights& out) {
  HWY_DYNAMIC_DISPATCH(StreamRowsF32)(tiles, first_row, end_row, out);
}

void StreamRows(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row,
                const RowsOfWeights& out) {
  HWY_DYNAMIC_DISPATCH(StreamRowsBf16)(tiles, first_row, end_row, out);
}

void FinishStreams() { hwy::FlushStream(); }

void AddToMean(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row, float share,
               bool is_first, const RowsOfWeights& out) {
  HWY_DYNAMIC_DISPATCH(AddRowsF32)(tiles, first_row, end_row, share, is_first, out);
}

void AddToMean(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row, float share, bool is_first,
               const RowsOfWeights& out) {
  HWY_DYNAMIC_DISPATCH(AddRowsBf16)(tiles, first_row, end_row, share, is_first, out);
}

}  // namespace headlight
#endif  // HWY_ONCE
