// SPDX-License-Identifier: Apache-2.0
#include "core/attention/maps/map_writer.h"

#include <algorithm>
#include <cmath>

#include "core/attention/maps/map_top_k.h"

namespace headlight {
namespace {

// Weights that are written between two looks at the interruption: some 100 us. In whole groups of the rows
// that a sum over queries takes together.
constexpr int64_t kWeightsAtOnce = int64_t{1} << 19;
constexpr int64_t kRowGranule = 8;

}  // namespace

template <typename T>
MapWriter<T>::MapWriter(const WeightsSink& sink, const WeightsHead& head, const QueryBlock& block,
                        const WriterMemory& memory)
    : sink_(sink), head_(head), block_(block), memory_(memory) {
  if (sink.mode == WeightsSink::Mode::kNone) return;
  place_ = sink.HeadPlace(head.head);
  if (place_ < 0) return;
  first_reported_head_ = sink.heads.empty()
                             ? head.head == 0
                             : head.head == *std::min_element(sink.heads.begin(), sink.heads.end());
  first_row_ = std::clamp<int64_t>(sink.QueryBegin(head.q_len) - block.first_query, 0, block.rows);
  end_row_ = std::clamp<int64_t>(sink.QueryEnd(head.q_len) - block.first_query, 0, block.rows);
  if (!sums_cells()) return;
  key_cells_ = KeyCells({sink.GridCols(head.num_keys), head.num_keys});
  cells_.SetUp(&key_cells_, memory.cell_sums);
  exact_cells_.SetUp(&key_cells_, memory.cell_sums + kQueryBlockRows * kMaxGridCells);
}

template <typename T>
void MapWriter<T>::Begin(int64_t first_key) {
  num_tiles_ = 0;
  first_key_ = end_key_ = first_key;
}

// Notes the references that the tile's exponentials are relative to; MakeFactors takes it from there.
template <typename T>
void MapWriter<T>::AddTile(int64_t end_key, const SoftmaxState& state) {
  std::copy_n(state.reference, block_.rows, memory_.tile_factors + num_tiles_ * kQueryBlockRows);
  ++num_tiles_;
  end_key_ = end_key;
}

template <typename T>
void MapWriter<T>::ExtendTo(int64_t end_key) {
  end_key_ = end_key;
  num_tiles_ = KeyTiles{first_key_}.TileOf(end_key - 1) + 1;
}

// Turns the tiles' references into factors.
template <typename T>
void MapWriter<T>::MakeFactors(const float* last_references, const float* inverse_sums) const {
  for (int64_t tile = 0; tile < num_tiles_; ++tile) {
    float* const factors = memory_.tile_factors + tile * kQueryBlockRows;
    for (int64_t row = first_row_; row < end_row_; ++row) {
      const float reference = factors[row];
      if (reference == last_references[row]) {
        factors[row] = inverse_sums[row];
      } else if (reference == -INFINITY) {
        factors[row] = 0.0f;  // no allowed key up to this tile: all of its exponentials are 0
      } else {
        const auto exponent = static_cast<double>(reference - last_references[row]);
        factors[row] = static_cast<float>(std::exp2(exponent)) * inverse_sums[row];
      }
    }
  }
}

template <typename T>
void MapWriter<T>::Finish(const SoftmaxState& state, const float* sums, const float* inverse_sums,
                          const T* exponentials, int64_t tile_stride, int64_t row_stride,
                          const Interruption& interruption) {
  if (sums_cells()) return FinishCells(inverse_sums);
  MakeFactors(state.reference, inverse_sums);
  const WeightTiles<T> tiles{exponentials,         tile_stride, row_stride,
                             memory_.tile_factors, first_key_,  end_key_};
  float exponent_sums[kQueryBlockRows];
  if (wants_exponents()) SumRows(state.exponent_sum, block_.rows, exponent_sums);
  // Which rows are summed up together follows the sequence alone.
  const int64_t rows_at_once =
      std::max(kWeightsAtOnce / head_.num_keys / kRowGranule, int64_t{1}) * kRowGranule;
  for (int64_t row = first_row_; row < end_row_; row += rows_at_once) {
    if (!interruption.MayGoOn()) return;
    FinishRows(tiles, row, std::min(row + rows_at_once, end_row_), sums, exponent_sums);
  }
}

template <typename T>
void MapWriter<T>::FinishRows(const WeightTiles<T>& tiles, int64_t first_row, int64_t end_row,
                              const float* sums, const float* exponent_sums) {
  const int64_t query = block_.first_query + first_row - sink_.QueryBegin(head_.q_len);  // of the sink
  const int64_t place = place_ * sink_.head_stride + query * sink_.query_stride;
  switch (sink_.mode) {
    case WeightsSink::Mode::kNone:
    case WeightsSink::Mode::kGrid:  // FinishCells
      return;
    case WeightsSink::Mode::kFull:
      return StreamRows(tiles, first_row, end_row, {sink_.data + place, sink_.query_stride, head_.num_keys});
    case WeightsSink::Mode::kMean:
      return AddToMean(tiles, first_row, end_row, 1.0f / static_cast<float>(sink_.NumHeads(head_.num_heads)),
                       first_reported_head_,
                       {sink_.data + query * sink_.query_stride, sink_.query_stride, head_.num_keys});
    case WeightsSink::Mode::kTopK:
      return SelectTopK(tiles, first_row, end_row,
                        {sink_.top_k, sink_.data + place, sink_.keys + place, sink_.query_stride});
    case WeightsSink::Mode::kSummary:
      break;
  }
  const SummaryRows rows{.first_row = first_row,
                         .end_row = end_row,
                         .first_position = block_.first_query + head_.kv_len - head_.q_len,
                         .kv_len = head_.kv_len,
                         .sums = sums,
                         .exponent_sums = exponent_sums};
  AddToSummary(tiles, rows, *memory_.summary, sink_.received_mass + place_ * sink_.received_stride);
}

template <typename T>
void MapWriter<T>::FinishCells(const float* inverse_sums) const {
  const BlockOfGrid of_block({sink_.GridRows(head_.q_len), sink_.NumQueries(head_.q_len)},
                             sink_.QueryBegin(head_.q_len), block_);
  const GridCells& rows = of_block.rows;
  float* const data = sink_.data + place_ * sink_.head_stride;
  float sums[kMaxGridCells];
  int64_t row = rows.CellOf(of_block.begin);
  bool began_before = of_block.SharesFirst();
  for (int64_t query = of_block.begin; query < of_block.end; ++row, began_before = false) {
    const int64_t end_of_row = rows.End(row);
    const int64_t end = std::min(end_of_row, of_block.end);
    const bool whole = !began_before && end_of_row == end;
    const int64_t first_row = first_row_ + query - of_block.begin;
    float* const to =
        whole ? sums : GridPart(memory_.grid_parts, memory_.first_query + block_.first_query, began_before);
    cells_.SumOver(first_row, first_row + end - query, inverse_sums, to);
    if (whole) WriteGridRow(key_cells_, end - query, sums, data + row * sink_.query_stride);
    query = end;
  }
}

template class MapWriter<float>;
template class MapWriter<Bf16>;

void FinishSummary(const SummarySums& sums, float* statistics) {
  for (int i = 0; i < kNumHeadStatistics; ++i) {
    statistics[i] = sums.num_queries == 0
                        ? 0.0f
                        : static_cast<float>(sums.statistics[i] / static_cast<double>(sums.num_queries));
  }
}

}  // namespace headlight
