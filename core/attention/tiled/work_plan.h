// SPDX-License-Identifier: Apache-2.0
//
// How the tiled kernel divides a batch: which sequences are worked on together, and in which pieces. Pieces
// whose bounds touch the results (blocks of queries) depend on their sequence alone; everything else may
// follow the batch and the number of threads.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_WORK_PLAN_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_WORK_PLAN_H_

#include <cstdint>
#include <vector>

#include "core/attention/batch.h"
#include "core/attention/config.h"
#include "core/attention/forward_shape.h"

namespace headlight {

// The numbers below are for cores with an L2 of 1 to 2 MiB and layers about 768 wide.
// Rows of one projection call: large enough to read a panel of parameters from L2 once for many rows.
constexpr int64_t kProjectionRows = 256;
// Rows that one (group, head) brings along: its inputs (1.5 MiB of f32, read three times) then stay in L2 for
// the q, k and v projections.
constexpr int64_t kGroupRows = 512;
// Queries of one block of attention: usually, and where there is a causal or window bound (smaller blocks
// waste less) or whole rows of weights are asked for (all tiles of a block, 140 KiB each, are kept until its
// end).
constexpr int64_t kQueryBlockRows = 128;
constexpr int64_t kSmallQueryBlockRows = 64;
// Keys whose scores are in work at once: kQueryBlockRows x kKeyTile scores, 280 KiB, stay in L2 beside the keys
// and values. Tiles begin at multiples of it, counted from the sequence's first key.
constexpr int64_t kKeyTile = 512;

// The tiles of the keys from first_key on: the first one begins there, the others at multiples of kKeyTile.
struct KeyTiles {
  int64_t first_key = 0;

  int64_t TileOf(int64_t key) const { return key / kKeyTile - first_key / kKeyTile; }
  int64_t FirstKey(int64_t tile) const { return tile == 0 ? first_key : EndKey(tile - 1); }
  int64_t EndKey(int64_t tile) const { return (first_key / kKeyTile + tile + 1) * kKeyTile; }
};

// Consecutive queries of one sequence that attend together.
struct QueryBlock {
  int64_t sequence = 0;
  int64_t first_query = 0;  // of the sequence
  int64_t rows = 0;
};

// Consecutive rows of the batch's queries, projected together; whole query blocks.
struct QueryChunk {
  int64_t first_row = 0;  // of the batch
  int64_t rows = 0;
  int64_t first_block = 0;  // blocks [first_block, end_block) of WorkPlan::query_blocks
  int64_t end_block = 0;
};

// Consecutive rows of the batch's keys and values, projected together. Begins at a key of its sequence that
// is a multiple of kPanelCols.
struct KeyChunk {
  int64_t first_row = 0;  // of the batch
  int64_t rows = 0;
};

// Sequences whose keys and values of one head are projected, packed and attended to as a unit.
struct SequenceGroup {
  int64_t first_sequence = 0;
  int64_t end_sequence = 0;
  int64_t first_query_chunk = 0;
  int64_t end_query_chunk = 0;
  int64_t first_key_chunk = 0;
  int64_t end_key_chunk = 0;
};

// One unit of parallel work: a group and the key/value heads [first_kv_head, end_kv_head), one after the
// other.
struct WorkItem {
  int64_t group = 0;
  int64_t first_kv_head = 0;
  int64_t end_kv_head = 0;
  bool split = false;  // its chunks may go to several threads: there are too few items for them
};

// Reusable: Build keeps the memory of the lists.
class WorkPlan {
 public:
  // `batch` is valid for `config`. Packed keys of a sequence are padded to a multiple of `key_granule`.
  void Build(const AttentionBatch& batch, const AttentionConfig& config, int64_t key_granule,
             int num_threads);

  // An upper bound of the groups of a batch of this shape.
  static int64_t MaxGroups(const ForwardShape& shape);
  // An upper bound of list_bytes() after a batch of this shape.
  static int64_t ListBytes(const ForwardShape& shape, const AttentionConfig& config);
  int64_t list_bytes() const;

  std::vector<SequenceGroup> groups;
  std::vector<WorkItem> items;
  std::vector<QueryChunk> query_chunks;
  std::vector<QueryBlock> query_blocks;
  std::vector<KeyChunk> key_chunks;
  // First row of each sequence among the packed keys of its group, padding included.
  std::vector<int64_t> packed_key_row;
  // First panel of each sequence among those of its group; a sequence begins a panel of its own.
  std::vector<int64_t> first_panel;
  int64_t max_packed_keys = 0;      // rows of the largest group
  int64_t max_panels = 0;           // of a group
  int64_t max_kept_keys = 0;        // of a sequence that keeps rows of weights, appended ones included; or 0
  int64_t max_group_sequences = 0;  // of a group
  int64_t max_group_queries = 0;    // of a group
  int64_t max_grid_queries = 0;     // of a group with a sequence that asks for a grid; or 0

 private:
  void AddGroup(const AttentionBatch& batch, const AttentionConfig& config, int64_t key_granule,
                int64_t first_sequence, int64_t end_sequence);
  void AddItems(const AttentionBatch& batch, const AttentionConfig& config, int num_threads);
  void AddQueryBlocks(const AttentionBatch& batch, const AttentionConfig& config, const SequenceGroup& group);
  void AddQueryChunks(const AttentionBatch& batch, SequenceGroup& group, int64_t first_block);
  void AddKeyChunks(const AttentionBatch& batch, SequenceGroup& group);
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_WORK_PLAN_H_
