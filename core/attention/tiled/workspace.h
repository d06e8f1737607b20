// SPDX-License-Identifier: Apache-2.0
//
// The memory that the tiled kernel works in: what it consists of, and how much of it a batch takes.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_WORKSPACE_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_WORKSPACE_H_

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/attention/config.h"
#include "core/attention/forward_shape.h"
#include "core/attention/kernel.h"
#include "core/attention/rope_table.h"
#include "core/attention/tiled/work_plan.h"
#include "core/product/operands.h"
#include "core/runtime/compute_arena.h"
#include "core/tensor/buffer.h"

namespace headlight {

// A panel more than a tile: rows a power of two apart would share cache sets.
constexpr int64_t kScoreStride = kKeyTile + 32;
// Of one tile of scores; where weights are asked for, blocks are small and all tiles of one are kept.
constexpr int64_t kTileElements = kQueryBlockRows * kScoreStride;
constexpr int64_t kKeptTileElements = kSmallQueryBlockRows * kScoreStride;
// Rows that are attended to once more together, when the fast softmax has not been good enough for them.
constexpr int64_t kExactRows = 16;

// What of a layer decides the sizes.
struct TiledLayer {
  const AttentionConfig& config;
  int64_t padded_head_dim = 0;
  int64_t element_bytes = 0;  // of the operands T of attention itself
  int64_t key_granule = 0;    // packed keys of a sequence are a multiple of it
  int64_t distance_cols = 0;  // of the scores of distances; 0 without disentangled attention
  int64_t gemm_scratch_bytes = 0;

  // Attention's output is f32 where int8 quantises it afterwards, else an operand of the output projection.
  int64_t ConcatRowBytes() const;
};

// What of a batch does: the numbers that its WorkPlan finds, or bounds of them.
struct TiledBatch {
  int64_t max_packed_keys = 0;
  int64_t max_panels = 0;
  int64_t max_kept_keys = 0;
  int64_t max_group_sequences = 0;
  int64_t max_group_queries = 0;
  int64_t max_grid_places = 0;
  int64_t num_items = 0;
  // Self attention projects queries together with keys and values, while their common input is in cache.
  bool queries_with_keys = false;
};

// What one thread works in, T being the operands of attention. Sizes in ForEachScratchSize.
struct WorkerScratch {
  Buffer projected;  // f32 [kProjectionRows, padded head_dim], a projection before rotation and packing
  Buffer finished;   // T [kProjectionRows + kPanelCols, padded head_dim], the same rotated; not for T = float
  Buffer queries;    // T [kProjectionRows + kFusedRows, padded head_dim], scaled
  Buffer scores;     // f32 [kQueryBlockRows, kScoreStride]; for T = float the probabilities take its place
  // T, one tile [kQueryBlockRows, kScoreStride], or where whole rows of weights are asked for all tiles of a
  // row, each [kSmallQueryBlockRows, kScoreStride].
  Buffer probabilities;
  Buffer acc;              // f32 [kQueryBlockRows, padded head_dim]
  Buffer reference;        // f32 [kQueryBlockRows]
  Buffer sum;              // f32 [kQueryBlockRows, kLanes]
  Buffer exponent_sum;     // likewise, for summaries
  Buffer tile_factors;     // f32 [tiles, kQueryBlockRows]
  Buffer cell_sums;        // f32 [kQueryBlockRows + kExactRows, kMaxGridCells], for grids; see CellSums
  Buffer distance_scores;  // f32 [kQueryBlockRows, distance_cols], of the block's queries with distances
  Buffer gemm;
  // Of kExactRows rows: T [padded head_dim] of queries, f32 [padded head_dim] of acc, and a tile of T.
  Buffer exact_queries;
  Buffer exact_acc;
  Buffer exact_tile;

  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit);
};

// What belongs to the group and head that a thread has begun, for as long as it takes.
struct GroupMemory {
  Buffer all_queries;  // T [heads of a kv head, queries of the group, padded head_dim]; see queries_with_keys
  Buffer keys;         // T [keys of the group, padded head_dim], in panels
  Buffer values;       // likewise
  Buffer key_panels;   // T* [panels of the group]
  Buffer value_panels;     // likewise
  Buffer not_finite;       // uint64_t [panels of the group]; as in KeyPanels
  Buffer distance_scores;  // f32 [keys of the group, distance_cols], of the keys with distances
  Buffer summaries;        // SummarySums [heads of a kv head, sequences of the group]
  Buffer grid_parts;       // f32 [heads of a kv head, GridPlaces(queries of the group), 2, kMaxGridCells]

  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit);
};

struct TiledWorkspace final : Workspace {
  explicit TiledWorkspace(int num_threads) : workers(num_threads), groups(num_threads) {}

  // Room for `batch`, of which ws.plan has been made. False when memory is short.
  bool Reserve(const TiledLayer& layer, const AttentionBatch& batch);
  // The angles of positions that the layer's own table does not hold. False when memory is short.
  bool ReserveAngles(const RopeConfig& config, const RopeTable& of_layer, const AttentionBatch& batch);

  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) override;
  int64_t list_bytes() const override { return plan.list_bytes(); }

  ComputeArena* arena = nullptr;  // of the call at work
  WorkPlan plan;
  bool queries_with_keys = false;  // as TiledBatch has it
  RopeTable rope;                  // what the layer's table does not hold
  // With QkNorm::kAllHeads: the factors of rows, f32 [q_tokens] and [kv_tokens].
  Buffer q_factors, k_factors;
  // With disentangled attention: rows of the table of distances, int32 [2 * longest + 1]; that of a key that
  // stands `d` behind a query is entry longest + d.
  Buffer distance_rows;
  int64_t longest = 0;
  OperandBuffer query_operands, key_operands, value_operands;
  Operands query, key, value;     // the inputs as operands; the same where they are the same
  Buffer concat;                  // [q_tokens, q_width], the heads' outputs side by side; f32 or bf16
  OperandBuffer concat_operands;  // kInt8 only
  std::vector<WorkerScratch> workers;
  std::vector<GroupMemory> groups;

 private:
  friend class GroupInUse;
  std::mutex mutex_;
  std::vector<GroupMemory*> free_groups_;
};

// The memory of a group for as long as a thread works on one: as many threads at most as there are items, so
// that few items take little.
class GroupInUse {
 public:
  explicit GroupInUse(TiledWorkspace& workspace);
  ~GroupInUse();
  GroupInUse(const GroupInUse&) = delete;
  GroupInUse& operator=(const GroupInUse&) = delete;

  GroupMemory& memory() const { return *group_; }

 private:
  TiledWorkspace& workspace_;
  GroupMemory* group_;
};

// An upper bound of what a workspace of `num_threads` takes for a batch of this shape that passes through
// `layers`, more than `kept` holds unless that is null. The layers, at least one, have the same precision.
int64_t TiledWorkspaceBytes(std::span<const TiledLayer> layers, const ForwardShape& shape, int num_threads,
                            const TiledWorkspace* kept);
inline int64_t TiledWorkspaceBytes(const TiledLayer& layer, const ForwardShape& shape, int num_threads,
                                   const TiledWorkspace* kept) {
  return TiledWorkspaceBytes({&layer, 1}, shape, num_threads, kept);
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_WORKSPACE_H_
