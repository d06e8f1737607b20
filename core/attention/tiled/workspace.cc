// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/workspace.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "core/attention/maps/map_grid.h"
#include "core/attention/maps/map_summary.h"
#include "core/attention/tiled/fused_scores.h"
#include "core/attention/tiled/softmax.h"
#include "core/product/parameter_panels.h"
#include "core/simd/targets.h"

namespace headlight {
namespace {

// Projected queries of a group that may lie about until they attend.
constexpr int64_t kMaxQueryBytes = int64_t{8} << 20;
constexpr int64_t kFloatBytes = sizeof(float);

bool IsSelfAttention(const AttentionBatch& batch) {
  return batch.query == batch.key &&
         std::equal(batch.cu_q_lens.begin(), batch.cu_q_lens.end(), batch.cu_kv_lens.begin());
}

int64_t Panels(int64_t keys) { return (keys + kPanelCols - 1) / kPanelCols; }

// All queries of a group, for the heads of one kv head.
int64_t AllQueryBytes(const TiledLayer& layer, int64_t group_queries) {
  return (layer.config.heads_per_kv_head() * group_queries + kFusedRows) * layer.padded_head_dim *
         layer.element_bytes;
}

int64_t DistanceRowBytes(int64_t longest) { return (2 * longest + 1) * int64_t{sizeof(int32_t)}; }

// Calls visit(member of WorkerScratch, bytes) for each buffer of a thread.
template <typename Visit>
void ForEachScratchSize(const TiledLayer& layer, const TiledBatch& batch, const Visit& visit) {
  using W = WorkerScratch;
  const int64_t head_dim = layer.padded_head_dim;
  const int64_t element = layer.element_bytes;
  const bool narrow = element < kFloatBytes;
  const int64_t tiles = batch.max_kept_keys > 0 ? batch.max_kept_keys / kKeyTile + 3 : 1;
  visit(&W::projected, kProjectionRows * head_dim * kFloatBytes);
  if (narrow) visit(&W::finished, (kProjectionRows + kPanelCols) * head_dim * element);
  visit(&W::queries, (kProjectionRows + kFusedRows) * head_dim * element);
  if (narrow) visit(&W::scores, kTileElements * kFloatBytes);
  visit(&W::probabilities, std::max(kTileElements, tiles * kKeptTileElements) * element);
  visit(&W::acc, kQueryBlockRows * head_dim * kFloatBytes);
  visit(&W::reference, kQueryBlockRows * kFloatBytes);
  visit(&W::sum, kQueryBlockRows * kLanes * kFloatBytes);
  visit(&W::exponent_sum, kQueryBlockRows * kLanes * kFloatBytes);
  visit(&W::tile_factors, tiles * kQueryBlockRows * kFloatBytes);
  if (batch.max_grid_places > 0) {
    visit(&W::cell_sums, (kQueryBlockRows + kExactRows) * kMaxGridCells * kFloatBytes);
  }
  if (layer.distance_cols > 0) {
    visit(&W::distance_scores, kQueryBlockRows * layer.distance_cols * kFloatBytes);
  }
  visit(&W::gemm, layer.gemm_scratch_bytes);
  visit(&W::exact_queries, kExactRows * head_dim * element);
  visit(&W::exact_acc, kExactRows * head_dim * kFloatBytes);
  visit(&W::exact_tile, kExactRows * kScoreStride * element);
}

// The same for a group in work.
template <typename Visit>
void ForEachGroupSize(const TiledLayer& layer, const TiledBatch& batch, const Visit& visit) {
  using G = GroupMemory;
  const int64_t packed_bytes = batch.max_packed_keys * layer.padded_head_dim * layer.element_bytes;
  visit(&G::all_queries, batch.queries_with_keys ? AllQueryBytes(layer, batch.max_group_queries) : 1);
  visit(&G::keys, packed_bytes);
  visit(&G::values, packed_bytes);
  visit(&G::key_panels, batch.max_panels * int64_t{sizeof(void*)});
  visit(&G::value_panels, batch.max_panels * int64_t{sizeof(void*)});
  visit(&G::not_finite, batch.max_panels * int64_t{sizeof(uint64_t)});
  if (layer.distance_cols > 0) {
    // Registers are read whole, beyond the last key.
    visit(&G::distance_scores, (batch.max_packed_keys + kLanes) * layer.distance_cols * kFloatBytes);
  }
  visit(&G::summaries,
        layer.config.heads_per_kv_head() * batch.max_group_sequences * int64_t{sizeof(SummarySums)});
  if (batch.max_grid_places > 0) {
    visit(&G::grid_parts,
          layer.config.heads_per_kv_head() * batch.max_grid_places * 2 * kMaxGridCells * kFloatBytes);
  }
}

// The largest size of each buffer that was visited.
template <typename Memory>
struct LargestSizes {
  void Visit(Buffer Memory::*buffer, int64_t size) {
    int i = 0;
    while (i < count && buffers[i] != buffer) ++i;
    if (i == count) buffers[count++] = buffer;
    sizes[i] = std::max(sizes[i], size);
  }

  // What `memory` takes more for them.
  int64_t GrowthOf(const Memory& memory) const {
    int64_t bytes = 0;
    for (int i = 0; i < count; ++i) bytes += (memory.*buffers[i]).GrowthFor(sizes[i]);
    return bytes;
  }

  static constexpr int kMaxBuffers = sizeof(Memory) / sizeof(Buffer);
  int count = 0;
  std::array<Buffer Memory::*, kMaxBuffers> buffers;
  std::array<int64_t, kMaxBuffers> sizes = {};
};

// What the first `count` of `held` take more; those that are not there hold nothing.
template <typename Memory>
int64_t GrowthOf(const std::vector<Memory>& held, int64_t count, const LargestSizes<Memory>& sizes) {
  const int64_t there = std::min<int64_t>(count, std::ssize(held));
  int64_t bytes = there < count ? (count - there) * sizes.GrowthOf(Memory()) : 0;
  for (int64_t i = 0; i < there; ++i) bytes += sizes.GrowthOf(held[i]);
  return bytes;
}

// What the plan of a batch of this shape finds at most: a group is one sequence or has at most kGroupRows
// rows.
TiledBatch BoundOf(const TiledLayer& layer, const ForwardShape& shape) {
  TiledBatch batch{.max_packed_keys = RoundUp(shape.longest_kv, layer.key_granule),
                   .max_panels = Panels(shape.longest_kv),
                   .max_group_sequences = 1,
                   .max_group_queries = shape.longest,
                   .num_items = WorkPlan::MaxGroups(shape) * layer.config.num_kv_heads,
                   .queries_with_keys = false};
  if (shape.longest_kv_with_rows > 0) {
    batch.max_kept_keys = shape.longest_kv_with_rows + layer.config.num_appended_keys();
  }
  if (shape.longest_with_grid > 0) {
    const int64_t of_many = shape.num_sequences > 1 ? std::min(shape.tokens, kGroupRows) : 0;
    batch.max_grid_places = GridPlaces(std::max(shape.longest_with_grid, of_many));
  }
  if (shape.num_sequences > 1) {
    const int64_t keys = std::min(shape.kv_tokens, kGroupRows);
    batch.max_group_queries = std::max(shape.longest, std::min(shape.tokens, kGroupRows));
    batch.max_group_sequences = std::min({shape.num_sequences, shape.tokens, keys});
    batch.max_packed_keys =
        std::max(batch.max_packed_keys, keys + batch.max_group_sequences * (layer.key_granule - 1));
    batch.max_panels =
        std::max(batch.max_panels, Panels(keys + batch.max_group_sequences * (kPanelCols - 1)));
  }
  batch.queries_with_keys = shape.self_attention;
  if (AllQueryBytes(layer, batch.max_group_queries) <= kMaxQueryBytes) return batch;
  // The queries of the largest group do not lie about; those of a smaller one might, if it is the largest.
  const int64_t at_most = (kMaxQueryBytes / layer.padded_head_dim / layer.element_bytes - kFusedRows) /
                          layer.config.heads_per_kv_head();
  batch.queries_with_keys = shape.self_attention && shape.longest <= at_most;
  batch.max_group_queries = std::max<int64_t>(at_most, 0);
  return batch;
}

}  // namespace

int64_t TiledLayer::ConcatRowBytes() const {
  if (config.precision == Precision::kInt8) return config.q_width() * kFloatBytes;
  return OperandCols(config.precision, config.q_width()) * OperandBytes(config.precision);
}

bool TiledWorkspace::Reserve(const TiledLayer& layer, const AttentionBatch& batch) {
  const AttentionConfig& config = layer.config;
  const int64_t q_tokens = batch.query.rows;
  bool ok = concat.Reserve(q_tokens * layer.ConcatRowBytes());
  if (config.precision == Precision::kInt8) {
    ok = ok && concat_operands.Reserve(config.precision,
                                       {concat.floats(), q_tokens, config.q_width(), config.q_width()});
  }
  ok = ok && query_operands.Reserve(config.precision, batch.query) &&
       (batch.key == batch.query || key_operands.Reserve(config.precision, batch.key)) &&
       (batch.value == batch.key || value_operands.Reserve(config.precision, batch.value));
  queries_with_keys =
      IsSelfAttention(batch) && AllQueryBytes(layer, plan.max_group_queries) <= kMaxQueryBytes;
  const TiledBatch sizes{.max_packed_keys = plan.max_packed_keys,
                         .max_panels = plan.max_panels,
                         .max_kept_keys = plan.max_kept_keys,
                         .max_group_sequences = plan.max_group_sequences,
                         .max_group_queries = plan.max_group_queries,
                         .max_grid_places = plan.max_grid_queries > 0 ? GridPlaces(plan.max_grid_queries) : 0,
                         .num_items = std::ssize(plan.items),
                         .queries_with_keys = queries_with_keys};
  for (WorkerScratch& worker : workers) {
    ForEachScratchSize(layer, sizes, [&](Buffer WorkerScratch::*buffer, int64_t bytes) {
      ok = ok && (worker.*buffer).Reserve(bytes);
    });
  }
  if (config.qk_norm == QkNorm::kAllHeads) {
    ok = ok && q_factors.Reserve(q_tokens * kFloatBytes) && k_factors.Reserve(batch.key.rows * kFloatBytes);
  }
  if (config.disentangled) {
    longest = 0;
    for (int64_t s = 0; s < batch.num_sequences(); ++s) {
      longest = std::max({longest, batch.q_len(s), batch.kv_len(s)});
    }
    ok = ok && distance_rows.Reserve(DistanceRowBytes(longest));
  }
  free_groups_.clear();
  for (int64_t i = 0; i < std::min(std::ssize(groups), sizes.num_items); ++i) {
    ForEachGroupSize(layer, sizes, [&](Buffer GroupMemory::*buffer, int64_t bytes) {
      ok = ok && (groups[i].*buffer).Reserve(bytes);
    });
    free_groups_.push_back(&groups[i]);
  }
  return ok;
}

bool TiledWorkspace::ReserveAngles(const RopeConfig& config, const RopeTable& of_layer,
                                   const AttentionBatch& batch) {
  bool ok = true;
  for (int64_t s = 0; s < batch.num_sequences() && ok; ++s) {
    const int64_t first = std::min<int64_t>(0, batch.kv_len(s) - batch.q_len(s));
    if (!of_layer.Holds(first, batch.kv_len(s))) ok = rope.Reserve(config, first, batch.kv_len(s), *arena);
  }
  return ok;
}

GroupInUse::GroupInUse(TiledWorkspace& workspace) : workspace_(workspace) {
  const std::lock_guard lock(workspace_.mutex_);
  group_ = workspace_.free_groups_.back();
  workspace_.free_groups_.pop_back();
}

GroupInUse::~GroupInUse() {
  const std::lock_guard lock(workspace_.mutex_);
  workspace_.free_groups_.push_back(group_);
}

void WorkerScratch::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  for (Buffer* buffer :
       {&projected, &finished, &queries, &scores, &probabilities, &acc, &reference, &sum, &exponent_sum,
        &tile_factors, &cell_sums, &distance_scores, &gemm, &exact_queries, &exact_acc, &exact_tile}) {
    visit(*buffer);
  }
}

void GroupMemory::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  for (Buffer* buffer : {&all_queries, &keys, &values, &key_panels, &value_panels, &not_finite,
                         &distance_scores, &summaries, &grid_parts}) {
    visit(*buffer);
  }
}

void TiledWorkspace::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  rope.ForEachBuffer(visit);
  for (OperandBuffer* operands : {&query_operands, &key_operands, &value_operands, &concat_operands}) {
    operands->ForEachBuffer(visit);
  }
  for (Buffer* buffer : {&concat, &q_factors, &k_factors, &distance_rows}) visit(*buffer);
  for (WorkerScratch& worker : workers) worker.ForEachBuffer(visit);
  for (GroupMemory& group : groups) group.ForEachBuffer(visit);
}

int64_t TiledWorkspaceBytes(std::span<const TiledLayer> layers, const ForwardShape& shape, int num_threads,
                            const TiledWorkspace* kept) {
  const TiledWorkspace nothing(0);
  const TiledWorkspace& held = kept == nullptr ? nothing : *kept;
  LargestSizes<WorkerScratch> scratch;
  LargestSizes<GroupMemory> group;
  int64_t num_items = 0, lists = 0, concat = 0, concat_operands = 0, angles = 0, rows = 0;
  const int64_t before = shape.self_attention ? 0 : shape.longest;
  for (const TiledLayer& layer : layers) {
    const AttentionConfig& config = layer.config;
    const TiledBatch batch = BoundOf(layer, shape);
    ForEachScratchSize(layer, batch, [&](auto buffer, int64_t size) { scratch.Visit(buffer, size); });
    ForEachGroupSize(layer, batch, [&](auto buffer, int64_t size) { group.Visit(buffer, size); });
    num_items = std::max(num_items, batch.num_items);
    lists = std::max(lists, WorkPlan::ListBytes(shape, config));
    concat = std::max(concat, held.concat.GrowthFor(shape.tokens * layer.ConcatRowBytes()));
    if (config.precision == Precision::kInt8) {
      concat_operands = std::max(
          concat_operands, held.concat_operands.GrowthFor(config.precision, shape.tokens, config.q_width()));
    }
    int64_t of_rows = 0;
    if (config.qk_norm == QkNorm::kAllHeads) {
      of_rows += held.q_factors.GrowthFor(shape.tokens * kFloatBytes) +
                 held.k_factors.GrowthFor(shape.kv_tokens * kFloatBytes);
    }
    if (config.disentangled) {
      of_rows += held.distance_rows.GrowthFor(DistanceRowBytes(std::max(shape.longest, shape.longest_kv)));
    }
    rows = std::max(rows, of_rows);
    if (config.rope && (before + shape.longest_kv > RopeTable::kPositions || !shape.self_attention)) {
      angles = std::max(angles, held.rope.GrowthFor(*config.rope, -before, shape.longest_kv));
    }
  }
  const AttentionConfig& config = layers.front().config;  // widths and precision are those of all
  int64_t bytes = GrowthOf(held.workers, num_threads, scratch) +
                  GrowthOf(held.groups, std::min<int64_t>(num_threads, num_items), group) +
                  lists +  // anew: which of the lists grow is not known
                  concat + concat_operands + angles + rows +
                  held.query_operands.GrowthFor(config.precision, shape.tokens, config.embed_dim);
  if (!shape.self_attention) {
    bytes += held.key_operands.GrowthFor(config.precision, shape.kv_tokens, config.kdim) +
             held.value_operands.GrowthFor(config.precision, shape.kv_tokens, config.vdim);
  }
  return bytes;
}

}  // namespace headlight
