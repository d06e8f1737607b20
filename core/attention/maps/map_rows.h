// SPDX-License-Identifier: Apache-2.0
//
// The exponentials that attention weights are made of, and scaled copies and sums of their rows. T is float
// or Bf16.
#ifndef HEADLIGHT_CORE_ATTENTION_MAPS_MAP_ROWS_H_
#define HEADLIGHT_CORE_ATTENTION_MAPS_MAP_ROWS_H_

#include <algorithm>
#include <cstdint>

#include "core/attention/tiled/work_plan.h"
#include "core/tensor/bf16.h"

namespace headlight {

// The exponentials of a block of queries and one head, as the softmax leaves them behind, and what makes
// weights of them. Tiles are those of KeyTiles. Behind a tile's keys there are zeros up to a multiple of
// kLanes.
template <typename T>
struct WeightTiles {
  const T* exponentials = nullptr;  // tile t of row r at t * tile_stride + r * row_stride
  int64_t tile_stride = 0;
  int64_t row_stride = 0;
  const float* factors = nullptr;  // [tiles, kQueryBlockRows]: weight = exponential * factor
  int64_t first_key = 0;           // of the sequence; all others' weights are 0
  int64_t end_key = 0;

  int64_t num_tiles() const { return first_key < end_key ? TileOf(end_key - 1) + 1 : 0; }
  int64_t TileOf(int64_t key) const { return KeyTiles{first_key}.TileOf(key); }
  int64_t FirstKey(int64_t tile) const { return KeyTiles{first_key}.FirstKey(tile); }
  int64_t NumKeys(int64_t tile) const {
    return std::min(KeyTiles{first_key}.EndKey(tile), end_key) - FirstKey(tile);
  }
  const T* Row(int64_t tile, int64_t row) const {
    return exponentials + tile * tile_stride + row * row_stride;
  }
  float Factor(int64_t tile, int64_t row) const { return factors[tile * kQueryBlockRows + row]; }
};

// Where rows of weights go: row i at data + i * stride.
struct RowsOfWeights {
  float* data = nullptr;
  int64_t stride = 0;
  int64_t num_keys = 0;  // of a row
};

// out = the weights of the rows [first_row, end_row), past the caches, for results that nobody reads soon.
// Other threads see them after FinishStreams on this one. No alignment needed.
void StreamRows(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row,
                const RowsOfWeights& out);
void StreamRows(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row, const RowsOfWeights& out);
void FinishStreams();

// out = the weights times `share` for the first head of a mean, out += them for the others.
void AddToMean(const WeightTiles<float>& tiles, int64_t first_row, int64_t end_row, float share,
               bool is_first, const RowsOfWeights& out);
void AddToMean(const WeightTiles<Bf16>& tiles, int64_t first_row, int64_t end_row, float share, bool is_first,
               const RowsOfWeights& out);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_MAPS_MAP_ROWS_H_
