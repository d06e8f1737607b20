// SPDX-License-Identifier: Apache-2.0
#include "core/attention/maps/map_grid.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/simd/targets.h"

// Highway compiles this file once for each instruction set by including it again and again.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/attention/maps/map_grid.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "core/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace headlight::HWY_NAMESPACE {

// lanes = the keys [begin, end) of a row of a tile.
template <typename T>
HWY_INLINE void SumKeys(const T* row, int64_t begin, int64_t end, Lanes& lanes) {
  for (V& part : lanes) part = hn::Zero(kFloats);
  int64_t key = begin;
  for (; key + kLanes <= end; key += kLanes) {
    for (int64_t p = 0; p < kParts; ++p) lanes[p] = hn::Add(lanes[p], LoadAs(row + key + p * kStep));
  }
  for (int64_t p = 0; p < kParts && key + p * kStep < end; ++p) {
    const auto left = hn::FirstN(kFloats, static_cast<size_t>(end - key - p * kStep));
    lanes[p] = hn::Add(lanes[p], hn::IfThenElseZero(left, LoadAs(row + key + p * kStep)));
  }
}

// Cells of one key: those of the tile from `first_key` on.
template <typename T>
HWY_INLINE void AddSingleKeys(const T* row, int64_t first_key, int64_t keys, float* sums) {
  for (int64_t i = 0; i < keys; i += kStep) {
    const auto left = static_cast<size_t>(keys - i);
    float* const to = sums + first_key + i;
    hn::StoreN(hn::Add(hn::LoadN(kFloats, to, left), LoadAs(row + i)), kFloats, to, left);
  }
}

// Cells [first_cell, end_cell) of a row; cell c has the keys [ends[c], ends[c + 1]) of the tile.
template <typename T>
HWY_INLINE void AddNarrowCells(const T* row, const int32_t* ends, int64_t first_cell, int64_t end_cell,
                               float* sums) {
  for (int64_t cell = first_cell; cell < end_cell; ++cell) {
    float sum = 0.0f;
    for (int64_t key = ends[cell]; key < ends[cell + 1]; ++key) sum += ToFloat(row[key]);
    sums[cell] += sum;
  }
}

// The same, four at a time: reductions over lanes then cost little more than one. first_cell is a multiple of
// four; behind the last of all cells `ends` goes on with its end.
template <typename T>
HWY_INLINE void AddWideCells(const T* row, const int32_t* ends, int64_t first_cell, int64_t end_cell,
                             float* sums) {
  for (int64_t cell = first_cell; cell < end_cell; cell += 4) {
    Lanes four[4];
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) SumKeys(row, ends[cell + i], ends[cell + i + 1], four[i]);
    hn::StoreU(hn::Add(hn::LoadU(kFourFloats, sums + cell), SumFour(four)), kFourFloats, sums + cell);
  }
}

// `first_cell` is that of the first key; sums as CellSums has them.
template <typename T>
HWY_INLINE void AddToCellsAs(const RowsOfExponentials<T>& e, const int32_t* begins, int64_t count,
                             int64_t first_cell, float* sums) {
  constexpr int64_t kNarrow = 4;  // keys of a cell, below which a loop over them is as fast
  static_assert(kMaxGridCells % 4 == 0);
  const int64_t length = begins[count];
  int32_t ends[kMaxGridCells + 1];
  const int64_t first = first_cell / 4 * 4;
  int64_t end = first;
  for (; end < count && begins[end] < e.end_key; ++end) {
    ends[end] = static_cast<int32_t>(std::max<int64_t>(begins[end], e.first_key) - e.first_key);
  }
  std::fill(ends + end, ends + kMaxGridCells + 1, static_cast<int32_t>(e.end_key - e.first_key));
  for (int64_t row = 0; row < e.rows; ++row) {
    const T* const from = e.data + row * e.stride;
    float* const to = sums + row * kMaxGridCells;
    if (count == length) {
      AddSingleKeys(from, e.first_key, e.end_key - e.first_key, to);
    } else if (length < kNarrow * count) {
      AddNarrowCells(from, ends, first_cell, end, to);
    } else {
      AddWideCells(from, ends, first, end, to);
    }
  }
}

void AddToCellsF32(const RowsOfExponentials<float>& e, const int32_t* begins, int64_t count,
                   int64_t first_cell, float* sums) {
  AddToCellsAs(e, begins, count, first_cell, sums);
}

void AddToCellsBf16(const RowsOfExponentials<Bf16>& e, const int32_t* begins, int64_t count,
                    int64_t first_cell, float* sums) {
  AddToCellsAs(e, begins, count, first_cell, sums);
}

// In the order of the rows.
void SumCells(const float* sums, int64_t count, int64_t first_row, int64_t end_row, const float* factors,
              float* out) {
  for (int64_t cell = 0; cell < count; cell += kStep) {
    V total = hn::Zero(kFloats);
    for (int64_t row = first_row; row < end_row; ++row) {
      total = hn::MulAdd(hn::LoadU(kFloats, sums + row * kMaxGridCells + cell),
                         hn::Set(kFloats, factors[row]), total);
    }
    hn::StoreN(total, kFloats, out + cell, static_cast<size_t>(count - cell));
  }
}

}  // namespace headlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headlight {

HWY_EXPORT(AddToCellsF32);
HWY_EXPORT(AddToCellsBf16);
HWY_EXPORT(SumCells);

namespace {

void AddToCells(const RowsOfExponentials<float>& e, const int32_t* begins, int64_t count, int64_t first_cell,
                float* sums) {
  HWY_DYNAMIC_DISPATCH(AddToCellsF32)(e, begins, count, first_cell, sums);
}

void AddToCells(const RowsOfExponentials<Bf16>& e, const int32_t* begins, int64_t count, int64_t first_cell,
                float* sums) {
  HWY_DYNAMIC_DISPATCH(AddToCellsBf16)(e, begins, count, first_cell, sums);
}

}  // namespace

KeyCells::KeyCells(const GridCells& cells) : count(cells.count) {
  for (int64_t cell = 0; cell <= count; ++cell) begins[cell] = static_cast<int32_t>(cells.Begin(cell));
  for (int64_t cell = 0; cell < count; ++cell) {
    inverse_widths[cell] = 1.0f / static_cast<float>(begins[cell + 1] - begins[cell]);
  }
}

void CellSums::Begin(int64_t rows) {
  std::fill_n(references_, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(sums_, rows * kMaxGridCells, 0.0f);
}

template <typename T>
void CellSums::AddAs(const RowsOfExponentials<T>& exponentials, const float* references) {
  for (int64_t row = 0; row < exponentials.rows; ++row) {
    if (references_[row] == references[row]) continue;
    if (references_[row] != -std::numeric_limits<float>::infinity()) {
      const auto factor =
          static_cast<float>(std::exp2(static_cast<double>(references_[row] - references[row])));
      for (int64_t cell = 0; cell < cells_->count; ++cell) At(row, cell) *= factor;
    }
    references_[row] = references[row];
  }
  const int32_t* const begins = cells_->begins;
  const int64_t first_cell =
      std::upper_bound(begins, begins + cells_->count, exponentials.first_key) - begins - 1;
  AddToCells(exponentials, begins, cells_->count, first_cell, sums_);
}

void CellSums::Add(const RowsOfExponentials<float>& exponentials, const float* references) {
  AddAs(exponentials, references);
}

void CellSums::Add(const RowsOfExponentials<Bf16>& exponentials, const float* references) {
  AddAs(exponentials, references);
}

void CellSums::Replace(int64_t row, const CellSums& from, int64_t from_row) {
  references_[row] = from.references_[from_row];
  for (int64_t cell = 0; cell < cells_->count; ++cell) At(row, cell) = from.At(from_row, cell);
}

void CellSums::SumOver(int64_t first_row, int64_t end_row, const float* factors, float* out) const {
  HWY_DYNAMIC_DISPATCH(SumCells)(sums_, cells_->count, first_row, end_row, factors, out);
}

BlockOfGrid::BlockOfGrid(const GridCells& rows_of_grid, int64_t first_query, const QueryBlock& block)
    : rows(rows_of_grid),
      begin(std::clamp<int64_t>(block.first_query - first_query, 0, rows.length)),
      end(std::clamp<int64_t>(block.first_query + block.rows - first_query, 0, rows.length)) {}

void WriteGridRow(const KeyCells& cells, int64_t queries, const float* sums, float* out) {
  const float inverse = 1.0f / static_cast<float>(queries);
  for (int64_t cell = 0; cell < cells.count; ++cell) {
    out[cell] = sums[cell] * (inverse * cells.inverse_widths[cell]);
  }
}

void FinishGrid(const WeightsSink& sink, int64_t q_len, int64_t num_keys, std::span<const QueryBlock> blocks,
                int64_t first_query, float* parts, float* data) {
  const GridCells rows = {sink.GridRows(q_len), sink.NumQueries(q_len)};
  const KeyCells keys({sink.GridCols(num_keys), num_keys});
  float sums[kMaxGridCells] = {};
  for (const QueryBlock& block : blocks) {
    const BlockOfGrid of_block(rows, sink.QueryBegin(q_len), block);
    if (of_block.begin >= of_block.end) continue;
    const int64_t first = rows.CellOf(of_block.begin), last = rows.CellOf(of_block.end - 1);
    if (of_block.SharesFirst()) {
      const float* const part = GridPart(parts, first_query + block.first_query, true);
      for (int64_t cell = 0; cell < keys.count; ++cell) sums[cell] += part[cell];
      if (rows.End(first) <= of_block.end) {
        WriteGridRow(keys, rows.Width(first), sums, data + first * sink.query_stride);
      }
    }
    if (of_block.SharesLast() && (first != last || !of_block.SharesFirst())) {
      std::copy_n(GridPart(parts, first_query + block.first_query, false), keys.count, sums);
    }
  }
}

}  // namespace headlight
#endif  // HWY_ONCE
