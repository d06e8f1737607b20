// SPDX-License-Identifier: Apache-2.0
#include "core/attention/maps/map_summary.h"

#include <algorithm>

#include "core/simd/targets.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/maps/map_summary.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

constexpr double kLn2 = 0.69314718055994531;
// Rows that are worked on together: received_mass and distances are done once for all of them.
constexpr int64_t kRows = 4;

// log2 of a normal number, something finite for 0. Absolute error 3.3e-7: a minimax polynomial of the
// mantissa between sqrt(1/2) and sqrt(2).
HWY_INLINE V4 Log2(V4 x) {
  const hn::RebindToSigned<FourFloats> integers;
  const auto horner = [&](V4 power, V4 f, float coefficient)
                          HWY_ATTR { return hn::MulAdd(power, f, hn::Set(kFourFloats, coefficient)); };
  const auto bits = hn::BitCast(integers, x);
  const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(integers, 0x3f3504f3)));
  const V4 mantissa = hn::BitCast(kFourFloats, hn::Sub(bits, hn::ShiftLeft<23>(exponent)));
  const V4 f = hn::Sub(mantissa, hn::Set(kFourFloats, 1.0f));
  V4 power = hn::Set(kFourFloats, 0.17063434422f);
  power = horner(power, f, -0.27269789577f);
  power = horner(power, f, 0.29726260900f);
  power = horner(power, f, -0.35896185040f);
  power = horner(power, f, 0.48046502471f);
  power = horner(power, f, -0.72137588263f);
  power = horner(power, f, 1.44269967079f);
  return hn::MulAdd(power, f, hn::ConvertTo(kFourFloats, exponent));
}

// Of kRows rows over the keys of one tile that fall to one register of kLanes lanes, lane by lane; max and
// squares in units of the exponentials.
struct TileSums {
  V distance;  // of all rows together
  V max[kRows];
  V squares[kRows];
};

// kRows consecutive rows of one tile.
template <typename T>
struct TileRows {
  const T* from[kRows];
  HWY_ALIGN float factors[kRows];
  int64_t keys;            // of the tile
  int64_t own_keys;        // the first ones, which are the sequence's own
  int64_t first_position;  // of the first row, counted from the tile's first key
  float* received_mass;    // [keys]
};

HWY_INLINE void AddRow(int64_t r, V e, TileSums& sums) {
  sums.max[r] = hn::Max(sums.max[r], e);
  sums.squares[r] = hn::MulAdd(e, e, sums.squares[r]);
}

// How far keys [i, i + kStep) are behind the first row's position. Whole numbers; beyond 2^24 they round as
// any f32 does.
template <typename T>
HWY_INLINE V DistanceAt(const TileRows<T>& tile, int64_t i) {
  return hn::Add(hn::Iota(kFloats, 0), hn::Set(kFloats, static_cast<float>(i - tile.first_position)));
}

// Whole kLanes of keys from `i` up to `end` that are all before the rows' positions, or all behind; of them,
// the register that begins at key `lane`. There a row's distance is that of the first row, plus its place or
// minus it, so that two sums over the rows do. Returns where it ended.
template <bool kIsBefore, typename T>
HWY_INLINE int64_t AddSide(const TileRows<T>& tile, int64_t i, int64_t end, int64_t lane, TileSums& sums) {
  V distance = DistanceAt(tile, i + lane);
  V f[kRows];
  V place_f[kRows];  // times the row's place
  for (int64_t r = 0; r < kRows; ++r) {
    f[r] = hn::Set(kFloats, tile.factors[r]);
    place_f[r] = hn::Set(kFloats, tile.factors[r] * static_cast<float>(r));
  }
  V places = hn::Zero(kFloats);
  V distances = hn::Zero(kFloats);
  const V step = hn::Set(kFloats, static_cast<float>(kLanes));
  for (; i + kLanes <= end; i += kLanes) {
    const int64_t key = i + lane;
    const V e[kRows] = {LoadAs(tile.from[0] + key), LoadAs(tile.from[1] + key), LoadAs(tile.from[2] + key),
                        LoadAs(tile.from[3] + key)};
    const V pairs[] = {hn::MulAdd(e[1], f[1], hn::Mul(e[0], f[0])),
                       hn::MulAdd(e[3], f[3], hn::Mul(e[2], f[2]))};
    const V weights = hn::Add(pairs[0], pairs[1]);
    places = hn::Add(places, hn::MulAdd(e[3], place_f[3], hn::MulAdd(e[2], place_f[2], hn::Mul(e[1], f[1]))));
    distances = hn::MulAdd(weights, distance, distances);
    distance = hn::Add(distance, step);
    float* const received = tile.received_mass + key;
    hn::StoreU(hn::Add(hn::LoadU(kFloats, received), weights), kFloats, received);
    AddRow(0, e[0], sums);
    AddRow(1, e[1], sums);
    AddRow(2, e[2], sums);
    AddRow(3, e[3], sums);
  }
  // Keys before a position are at distances below 0.
  const V sum = hn::Sub(distances, places);
  sums.distance = kIsBefore ? hn::Sub(sums.distance, sum) : hn::Add(sums.distance, sum);
  return i;
}

// Any keys from `i` on, kLanes at a time; of them, the register that begins at key `lane`: those around the
// positions, the end of the sequence's own, and the appended ones, which stand nowhere. The exponentials go on
// with zeros. Returns where it ended.
template <typename T>
HWY_INLINE int64_t AddAny(const TileRows<T>& tile, int64_t i, int64_t end, int64_t lane, TileSums& sums) {
  for (; i < end; i += kLanes) {
    const int64_t key = i + lane;
    const auto left = static_cast<size_t>(std::max<int64_t>(0, tile.keys - key));
    const auto is_own = hn::FirstN(kFloats, static_cast<size_t>(std::max<int64_t>(0, tile.own_keys - key)));
    V received = hn::LoadN(kFloats, tile.received_mass + key, left);
#pragma GCC unroll 4
    for (int64_t r = 0; r < kRows; ++r) {
      const V e = LoadAs(tile.from[r] + key);
      const V weight = hn::Mul(e, hn::Set(kFloats, tile.factors[r]));
      const V distance = hn::Abs(hn::Sub(DistanceAt(tile, key), hn::Set(kFloats, static_cast<float>(r))));
      sums.distance = hn::MulAdd(hn::IfThenElseZero(is_own, weight), distance, sums.distance);
      received = hn::Add(received, weight);
      AddRow(r, e, sums);
    }
    hn::StoreN(received, kFloats, tile.received_mass + key, left);
  }
  return i;
}

template <typename T>
HWY_INLINE TileSums AddTile(const TileRows<T>& tile, int64_t lane) {
  TileSums sums;
  sums.distance = hn::Zero(kFloats);
#pragma GCC unroll 4
  for (int64_t r = 0; r < kRows; ++r) sums.max[r] = sums.squares[r] = hn::Zero(kFloats);
  int64_t i = AddSide<true>(tile, 0, std::min(tile.own_keys, tile.first_position), lane, sums);
  i = AddAny(tile, i, std::min(tile.own_keys, tile.first_position + kRows), lane, sums);
  i = AddSide<false>(tile, i, tile.own_keys, lane, sums);
  AddAny(tile, i, tile.keys, lane, sums);
  return sums;
}

// The sums of a block, those over rows still apart in the lanes.
struct BlockSums {
  Lanes distance;
  V4 entropy;
  V4 max;
  V4 support;
  int64_t num_queries;
};

// Rows [row, row + kRows); those from end_row on count nothing.
template <typename T>
HWY_INLINE void AddRows(const WeightTiles<T>& tiles, const SummaryRows& rows, int64_t row,
                        float* received_mass, BlockSums& sums) {
  V4 max = hn::Zero(kFourFloats);
  V4 squares = hn::Zero(kFourFloats);
  for (int64_t tile = 0; tile < tiles.num_tiles(); ++tile) {
    const int64_t key = tiles.FirstKey(tile);
    const int64_t keys = tiles.NumKeys(tile);
    TileRows<T> of_tile = {.keys = keys,
                           .own_keys = std::clamp<int64_t>(rows.kv_len - key, 0, keys),
                           .first_position = rows.first_position + row - key,
                           .received_mass = received_mass + key};
    for (int64_t r = 0; r < kRows; ++r) {
      of_tile.from[r] = tiles.Row(tile, std::min(row + r, rows.end_row - 1));
      of_tile.factors[r] = row + r < rows.end_row ? tiles.Factor(tile, row + r) : 0.0f;
    }
    Lanes tile_max[kRows];
    Lanes tile_squares[kRows];
    for (int64_t p = 0; p < kParts; ++p) {
      const TileSums tile_sums = AddTile(of_tile, p * kStep);
      sums.distance[p] = hn::Add(sums.distance[p], tile_sums.distance);
      for (int64_t r = 0; r < kRows; ++r) {
        tile_max[r][p] = tile_sums.max[r];
        tile_squares[r][p] = tile_sums.squares[r];
      }
    }
    const V4 f = hn::Load(kFourFloats, of_tile.factors);
    max = hn::Max(max, hn::Mul(MaxFour(tile_max), f));
    squares = hn::MulAdd(SumFour(tile_squares), hn::Mul(f, f), squares);
  }
  const auto count = static_cast<size_t>(std::min(kRows, rows.end_row - row));
  const V4 sum = hn::LoadN(kFourFloats, rows.sums + row, count);
  const V4 mean_exponent = hn::Div(hn::LoadN(kFourFloats, rows.exponent_sums + row, count), sum);
  // Rows without an allowed key have a sum of 0. An entropy of 0 may come out below it.
  const auto counts = hn::Ne(sum, hn::Zero(kFourFloats));
  V4 entropy = hn::Sub(Log2(sum), mean_exponent);
  entropy = hn::IfThenZeroElse(hn::Lt(entropy, hn::Zero(kFourFloats)), entropy);
  sums.entropy = hn::Add(sums.entropy, hn::IfThenElseZero(counts, entropy));
  sums.max = hn::Add(sums.max, max);
  sums.support =
      hn::Add(sums.support, hn::IfThenElseZero(counts, hn::Div(hn::Set(kFourFloats, 1.0f), squares)));
  sums.num_queries += static_cast<int64_t>(hn::CountTrue(kFourFloats, counts));
}

template <typename T>
HWY_INLINE void AddBlock(const WeightTiles<T>& tiles, const SummaryRows& rows, SummarySums& sums,
                         float* received_mass) {
  const V4 zero = hn::Zero(kFourFloats);
  BlockSums block = {.distance = {}, .entropy = zero, .max = zero, .support = zero, .num_queries = 0};
  for (V& part : block.distance) part = hn::Zero(kFloats);
  for (int64_t row = rows.first_row; row < rows.end_row; row += kRows) {
    AddRows(tiles, rows, row, received_mass, block);
  }
  const auto weight = [&](int64_t row, int64_t key) {
    const int64_t tile = tiles.TileOf(key);
    return ToFloat(tiles.Row(tile, row)[key - tiles.FirstKey(tile)]) * tiles.Factor(tile, row);
  };
  const auto is_computed = [&](int64_t key) { return key >= tiles.first_key && key < tiles.end_key; };
  for (int64_t row = rows.first_row; row < rows.end_row; ++row) {
    const int64_t position = rows.first_position + row;
    if (is_computed(0)) sums.statistics[kFirstTokenMass] += weight(row, 0);
    if (is_computed(position) && position < rows.kv_len) sums.statistics[kSelfMass] += weight(row, position);
  }
  sums.num_queries += block.num_queries;
  sums.statistics[kEntropyNats] += SumOf(block.entropy) * kLn2;
  sums.statistics[kDistanceTokens] += SumOf(block.distance);
  sums.statistics[kMaxWeight] += SumOf(block.max);
  sums.statistics[kEffectiveSupport] += SumOf(block.support);
}

void AddBlockF32(const WeightTiles<float>& tiles, const SummaryRows& rows, SummarySums& sums,
                 float* received_mass) {
  AddBlock(tiles, rows, sums, received_mass);
}

void AddBlockBf16(const WeightTiles<Bf16>& tiles, const SummaryRows& rows, SummarySums& sums,
                  float* received_mass) {
  AddBlock(tiles, rows, sums, received_mass);
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(AddBlockF32);
HWY_EXPORT(AddBlockBf16);

void AddToSummary(const WeightTiles<float>& tiles, const SummaryRows& rows, SummarySums& sums,
                  float* received_mass) {
  HWY_DYNAMIC_DISPATCH(AddBlockF32)(tiles, rows, sums, received_mass);
}

void AddToSummary(const WeightTiles<Bf16>& tiles, const SummaryRows& rows, SummarySums& sums,
                  float* received_mass) {
  HWY_DYNAMIC_DISPATCH(AddBlockBf16)(tiles, rows, sums, received_mass);
}

}  // namespace headlight
#endif  // HWY_ONCE
