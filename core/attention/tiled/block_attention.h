// SPDX-License-Identifier: Apache-2.0
//
// softmax(q k^T) v for one block of queries and one head: scores, exponentials, values, normalising, tile of
// keys by tile of keys.
//
// What becomes of a row depends on that row and the keys that it sees, and on nothing else: not on the other
// rows of the block, on keys that it does not see, nor on whether its weights are kept. So its bits are the
// same however a sequence is cut. Four rules make them so: tiles and panels of keys are counted from key 0; a
// row whose fast softmax was not good enough is done again alone; sums are taken in one order, however their
// terms were made; and a weight of 0 adds nothing to a sum.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_BLOCK_ATTENTION_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_BLOCK_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "core/attention/maps/map_writer.h"
#include "core/attention/tiled/packed_keys.h"
#include "core/attention/tiled/packed_layer.h"
#include "core/attention/tiled/softmax.h"
#include "core/attention/tiled/work_plan.h"
#include "core/attention/tiled/workspace.h"
#include "core/runtime/interruption.h"

namespace headlight {

// T is float or Bf16. For one block and head; all that it is given must outlive it.
template <typename T>
class BlockAttention {
 public:
  BlockAttention(const PackedLayer<T>& layer, const KeyPanels<T>& keys, const ScoreRules& rules,
                 const QueryBlock& block, WorkerScratch& scratch, const Interruption& interruption);

  // Attends with the block's `queries` [rows rounded up to kFusedRows, padded head_dim] and writes what they
  // gather to the rows of `out` [rows, head_dim], out_row_bytes apart, as f32 or, where the layer's precision
  // is bf16, as bf16. Weights go where `writer` wants them. Ends early where the interruption says so; what
  // it leaves is then unfinished.
  void Run(const T* queries, MapWriter<T>& writer, std::byte* out, int64_t out_row_bytes);

 private:
  // Rows of queries in work, and what has become of them.
  struct Rows {
    int64_t count = 0;
    const T* queries = nullptr;      // [count, padded head_dim]
    const int64_t* query = nullptr;  // of the sequence, one for each row
    T* probabilities = nullptr;      // [count, kScoreStride], of the tile in work
    float* scores = nullptr;         // likewise; the same memory for T = float
    CellSums* cells = nullptr;       // where weights are averaged over cells
    SoftmaxState state;
  };

  void UseTile(T* probabilities, Rows& rows) const;
  bool AttendFast(Rows& rows, MapWriter<T>& writer);
  bool AttendExactly(const T* queries, const int64_t* block_rows, int64_t count, MapWriter<T>& writer,
                     const SoftmaxState& of_block);
  bool AttendTile(const Rows& rows, int64_t first_key, int64_t end_key);
  void AttendAppended(const Rows& rows, const int64_t* block_rows, MapWriter<T>& writer);
  void KeepAppended(const T* weights, float reference, int64_t block_row, MapWriter<T>& writer);
  void Score(const Rows& rows, int64_t first_key, int64_t end_key);
  void ScoreByRules(const Rows& rows, int64_t tile_key, int64_t first_key, int64_t end_key);
  void ScoreFused(const Rows& rows, int64_t tile_key, int64_t first_key, int64_t end_key);
  void AddValues(const Rows& rows, int64_t first_key, int64_t end_key);
  void AddToCells(const Rows& rows, int64_t first_key, int64_t end_key) const;
  void SpoilRows(const Rows& rows, int64_t first_key, int64_t end_key, int64_t panel);
  // The first key of the tile after the one that holds `key`.
  int64_t TileEnd(int64_t key) const { return std::min(tiles_.EndKey(tiles_.TileOf(key)), end_key_); }
  // Where the exponential of a row and key is kept for the writer.
  T* Kept(int64_t block_row, int64_t key) const {
    const int64_t tile = tiles_.TileOf(key);
    return scratch_.probabilities.As<T>() + tile * kKeptTileElements + block_row * kScoreStride + key -
           tiles_.FirstKey(tile);
  }

  const PackedLayer<T>& layer_;
  const KeyPanels<T>& keys_;
  const ScoreRules& rules_;
  const QueryBlock& block_;
  WorkerScratch& scratch_;
  const Interruption& interruption_;
  KeyTiles tiles_;       // from the first panel on that some query sees
  int64_t end_key_;      // of the sequence's own keys that some query sees
  int64_t whole_begin_;  // panels [whole_begin_, whole_end_) go through the fused loop, in keys
  int64_t whole_end_;
  int64_t queries_[kQueryBlockRows];  // of the sequence, one for each row of the block
};

extern template class BlockAttention<float>;
extern template class BlockAttention<Bf16>;

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_BLOCK_ATTENTION_H_
