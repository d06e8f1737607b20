// SPDX-License-Identifier: Apache-2.0
//
// Attention weights on request: takes the exponentials that a block's softmax leaves behind and turns them
// into what the sink asks for, once the final references and sums are known.
#ifndef HEADLIGHT_CORE_ATTENTION_MAPS_MAP_WRITER_H_
#define HEADLIGHT_CORE_ATTENTION_MAPS_MAP_WRITER_H_

#include <cstdint>

#include "core/attention/batch.h"
#include "core/attention/interruption.h"
#include "core/attention/maps/map_grid.h"
#include "core/attention/maps/map_rows.h"
#include "core/attention/maps/map_summary.h"
#include "core/attention/tiled/softmax.h"
#include "core/attention/tiled/work_plan.h"

namespace headlight {

// One head of one sequence, as a writer needs to know it.
struct WeightsHead {
  int64_t head = 0;
  int64_t num_heads = 0;
  int64_t q_len = 0;
  int64_t kv_len = 0;    // the sequence's own keys
  int64_t num_keys = 0;  // with the appended ones
};

// What a writer works in; of each what its mode has use for.
struct WriterMemory {
  float* tile_factors = nullptr;   // [tiles of a row, kQueryBlockRows]
  SummarySums* summary = nullptr;  // of the sequence and head
  float* cell_sums = nullptr;      // [kQueryBlockRows + kExactRows, kMaxGridCells]
  float* grid_parts = nullptr;     // of the head, see GridPart
  int64_t first_query = 0;         // the sequence's, of its group
};

// The weights of one block of queries and one head. T is float or Bf16.
template <typename T>
class MapWriter {
 public:
  // For Mode::kMean the heads of a block come in order: the mean is summed up in the sink. For kSummary the
  // blocks of a sequence come in order.
  MapWriter(const WeightsSink& sink, const WeightsHead& head, const QueryBlock& block,
            const WriterMemory& memory);

  // Whether anything of this block and head is asked for; if not, nothing else may be called.
  bool wanted() const { return first_row_ < end_row_; }

  // Whether the softmax is to sum up exponents too; see SoftmaxState::exponent_sum.
  bool wants_exponents() const { return wanted() && sink_.mode == WeightsSink::Mode::kSummary; }

  // Whether exponentials are to be kept until Finish: what follows, up to ExtendTo, is for these. Else they
  // are summed up in cells() as they come, those of rows that are done once more in exact_cells().
  bool keeps_tiles() const { return wanted() && sink_.KeepsRows(); }
  bool sums_cells() const { return wanted() && sink_.mode == WeightsSink::Mode::kGrid; }
  CellSums& cells() { return cells_; }
  CellSums& exact_cells() { return exact_cells_; }

  // Begins, with the tile of keys that begins at first_key.
  void Begin(int64_t first_key);

  // The tile up to end_key was added to the state; its exponentials stay where they are until Finish.
  void AddTile(int64_t end_key, const SoftmaxState& state);

  // What a row of a tile is relative to, until Finish.
  float& Reference(int64_t tile, int64_t row) { return memory_.tile_factors[tile * kQueryBlockRows + row]; }

  // All keys up to end_key are there, in tiles as they would have been added.
  void ExtendTo(int64_t end_key);

  // Writes the block's rows of the sink; other threads see them after FinishStreams on this one. Of a grid,
  // rows of cells that other blocks have queries of are left to FinishGrid. Tile t's exponentials of row r are
  // at exponentials + t * tile_stride + r * row_stride; sums as FinishSums makes them. Ends early where the
  // interruption says so.
  void Finish(const SoftmaxState& state, const float* sums, const float* inverse_sums, const T* exponentials,
              int64_t tile_stride, int64_t row_stride, const Interruption& interruption);

 private:
  // The rows [first_row, end_row) of the block; `exponent_sums` are for kSummary.
  void FinishRows(const WeightTiles<T>& tiles, int64_t first_row, int64_t end_row, const float* sums,
                  const float* exponent_sums);
  void FinishCells(const float* inverse_sums) const;
  void MakeFactors(const float* last_references, const float* inverse_sums) const;

  const WeightsSink& sink_;
  const WeightsHead head_;
  const QueryBlock& block_;
  const WriterMemory memory_;
  KeyCells key_cells_;
  CellSums cells_, exact_cells_;
  bool first_reported_head_ = false;  // of those that are computed in order
  int64_t place_ = -1;                // of the head among the reported ones; -1 if it is not
  int64_t first_row_ = 0;             // rows of the block that are asked for
  int64_t end_row_ = 0;
  int64_t num_tiles_ = 0;
  int64_t first_key_ = 0;  // of the first tile
  int64_t end_key_ = 0;    // of the last tile
};

extern template class MapWriter<float>;
extern template class MapWriter<Bf16>;

// Averages `sums` into the head's statistics of a kSummary sink.
void FinishSummary(const SummarySums& sums, float* statistics);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_MAPS_MAP_WRITER_H_
