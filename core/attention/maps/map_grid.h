// SPDX-License-Identifier: Apache-2.0
//
// Means of attention weights over cells of queries and keys. The exponentials of each query are summed up by
// cells of keys tile by tile, while they are in cache, and become weights when the query's own sum is known;
// so a query takes room for its cells and not for its keys. T is float or Bf16.
#ifndef HEADLIGHT_CORE_ATTENTION_MAPS_MAP_GRID_H_
#define HEADLIGHT_CORE_ATTENTION_MAPS_MAP_GRID_H_

#include <cstdint>
#include <span>

#include "core/attention/sink.h"
#include "core/attention/tiled/work_plan.h"
#include "core/tensor/bf16.h"

namespace headlight {

// `length` queries or keys in `count` cells as even as whole numbers allow; 1 <= count <= length, or both 0.
struct GridCells {
  int64_t count = 0;
  int64_t length = 0;

  int64_t Begin(int64_t cell) const { return cell * length / count; }
  int64_t End(int64_t cell) const { return Begin(cell + 1); }
  int64_t Width(int64_t cell) const { return End(cell) - Begin(cell); }
  int64_t CellOf(int64_t place) const { return ((place + 1) * count - 1) / length; }
};

// The cells of a sequence's keys, and what their sums are multiplied by to become means.
struct KeyCells {
  KeyCells() = default;
  explicit KeyCells(const GridCells& cells);

  int64_t count = 0;
  int32_t begins[kMaxGridCells + 1] = {};  // the last one is the number of keys
  float inverse_widths[kMaxGridCells] = {};
};

// Rows of exponentials, of the keys [first_key, end_key) of the sequence.
template <typename T>
struct RowsOfExponentials {
  const T* data = nullptr;  // row r at r * stride, readable for kLanes beyond the last key
  int64_t stride = 0;
  int64_t rows = 0;
  int64_t first_key = 0;
  int64_t end_key = 0;
};

// The sums of a block's rows, each relative to a reference as its softmax is.
class CellSums {
 public:
  // Before anything else. `cells` must live on; `memory`: [rows, kMaxGridCells].
  void SetUp(const KeyCells* cells, float* memory) {
    cells_ = cells;
    sums_ = memory;
  }

  // Nothing was seen of `rows` rows, at most kQueryBlockRows.
  void Begin(int64_t rows);
  // Adds to each row what is relative to references[row]; what was added before is taken to it.
  void Add(const RowsOfExponentials<float>& exponentials, const float* references);
  void Add(const RowsOfExponentials<Bf16>& exponentials, const float* references);
  // Puts row `from_row` of others of as many cells in the place of `row`.
  void Replace(int64_t row, const CellSums& from, int64_t from_row);
  // out[cell] = the sum over the rows [first_row, end_row) of their sums times factors[row].
  void SumOver(int64_t first_row, int64_t end_row, const float* factors, float* out) const;

 private:
  template <typename T>
  void AddAs(const RowsOfExponentials<T>& exponentials, const float* references);
  float& At(int64_t row, int64_t cell) const { return sums_[row * kMaxGridCells + cell]; }

  const KeyCells* cells_ = nullptr;
  float* sums_ = nullptr;
  float references_[kQueryBlockRows];
};

// The queries of a grid that a block has, and how its rows of cells meet the block's ends.
struct BlockOfGrid {
  // `first_query` is the sequence's first query that the grid is of.
  BlockOfGrid(const GridCells& rows_of_grid, int64_t first_query, const QueryBlock& block);

  GridCells rows;     // of the grid
  int64_t begin = 0;  // queries of the grid, in the block
  int64_t end = 0;

  // Rows of cells that are shared with blocks before it, and with blocks behind it: those of its first and
  // of its last query.
  bool SharesFirst() const { return rows.Begin(rows.CellOf(begin)) < begin; }
  bool SharesLast() const { return rows.End(rows.CellOf(end - 1)) > end; }
};

// Writes a row of a grid: sums of weights over so many queries, [cells.count], become means.
void WriteGridRow(const KeyCells& cells, int64_t queries, const float* sums, float* out);

// What blocks leave of the rows of cells that they share: of one that began before the block in the first of
// two parts, of one that goes on behind it in the second. A group has GridPlaces of them, one for every
// kSmallQueryBlockRows of its queries; a block that begins with query `first_query` of the group has the one
// that this is in. No two blocks have the same part: a sequence's blocks are that long but for its last one,
// which has no second part, and its first one has no first.
constexpr int64_t GridPlaces(int64_t queries) { return queries / kSmallQueryBlockRows + 1; }
inline float* GridPart(float* parts, int64_t first_query, bool began_before) {
  return parts + (first_query / kSmallQueryBlockRows * 2 + (began_before ? 0 : 1)) * kMaxGridCells;
}

// Adds up the rows of cells that several of a sequence's blocks share, in the order of the queries. `blocks`
// are all of the sequence's, which begins with query `first_query` of its group; `data` is the head's place in
// the sink, and `num_keys` has the appended ones.
void FinishGrid(const WeightsSink& sink, int64_t q_len, int64_t num_keys, std::span<const QueryBlock> blocks,
                int64_t first_query, float* parts, float* data);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_MAPS_MAP_GRID_H_
