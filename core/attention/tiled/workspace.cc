// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/workspace.h"

#include <algorithm>

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
  return batch.query.data == batch.key.data &&
         std::equal(batch.cu_q_lens.begin(), batch.cu_q_lens.end(), batch.cu_kv_lens.begin());
}

// All queries of a group, for the heads of one kv head.
int64_t AllQueryBytes(const TiledLayer& layer, int64_t group_queries) {
  return (layer.config.heads_per_kv_head() * group_queries + kFusedRows) * layer.padded_head_dim *
         layer.element_bytes;
}

// Calls visit(member of WorkerScratch, bytes) for each buffer of a thread.
template <typename Visit>
void ForEachScratchSize(const TiledLayer& layer, const TiledBatch& batch, const Visit& visit) {
  using W = WorkerScratch;
  const int64_t head_dim = layer.padded_head_dim;
  const int64_t element = layer.element_bytes;
  const bool narrow = element < kFloatBytes;
  const int64_t tiles = batch.wants_weights ? batch.max_num_keys / kKeyTile + 2 : 1;
  visit(&W::projected, kProjectionRows * head_dim * kFloatBytes);
  if (narrow) visit(&W::finished, (kProjectionRows + kPanelCols) * head_dim * element);
  visit(&W::queries, (kProjectionRows + kFusedRows) * head_dim * element);
  if (narrow) visit(&W::scores, kTileElements * kFloatBytes);
  visit(&W::probabilities, tiles * kTileElements * element);
  visit(&W::acc, kQueryBlockRows * head_dim * kFloatBytes);
  visit(&W::reference, kQueryBlockRows * kFloatBytes);
  visit(&W::sum, kQueryBlockRows * kLanes * kFloatBytes);
  visit(&W::exponent_sum, kQueryBlockRows * kLanes * kFloatBytes);
  visit(&W::tile_factors, tiles * kQueryBlockRows * kFloatBytes);
  visit(&W::gemm, layer.gemm_scratch_bytes);
  visit(&W::all_queries, batch.queries_with_keys ? AllQueryBytes(layer, batch.max_group_queries) : 1);
  visit(&W::packed_keys, batch.max_packed_keys * head_dim * element);
  visit(&W::packed_values, batch.max_packed_keys * head_dim * element);
  visit(&W::summaries,
        layer.config.heads_per_kv_head() * batch.max_group_sequences * int64_t{sizeof(SummarySums)});
}

// What the plan of a batch of this shape finds at most: a group is one sequence or has at most kGroupRows
// rows.
TiledBatch BoundOf(const TiledLayer& layer, const ForwardShape& shape) {
  const int64_t appended = layer.config.num_appended_keys();
  TiledBatch batch{.max_packed_keys = RoundUp(shape.longest_kv + appended, layer.key_granule),
                   .max_num_keys = shape.longest_kv + appended,
                   .max_group_sequences = 1,
                   .max_group_queries = shape.longest,
                   .wants_weights = shape.wants_weights,
                   .queries_with_keys = false};
  if (shape.num_sequences > 1) {
    const int64_t keys = std::min(shape.kv_tokens, kGroupRows);
    batch.max_group_queries = std::max(shape.longest, std::min(shape.tokens, kGroupRows));
    batch.max_group_sequences = std::min({shape.num_sequences, shape.tokens, keys});
    batch.max_packed_keys = std::max(batch.max_packed_keys,
                                     keys + batch.max_group_sequences * (appended + layer.key_granule - 1));
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
       (batch.key.data == batch.query.data || key_operands.Reserve(config.precision, batch.key)) &&
       (batch.value.data == batch.key.data || value_operands.Reserve(config.precision, batch.value));
  queries_with_keys =
      IsSelfAttention(batch) && AllQueryBytes(layer, plan.max_group_queries) <= kMaxQueryBytes;
  if (config.rope) {
    for (int64_t s = 0; s < batch.num_sequences() && ok; ++s) {
      const int64_t first = std::min<int64_t>(0, batch.kv_len(s) - batch.q_len(s));
      ok = rope.Reserve(*config.rope, first, batch.kv_len(s));
    }
  }
  const TiledBatch sizes{.max_packed_keys = plan.max_packed_keys,
                         .max_num_keys = plan.max_num_keys,
                         .max_group_sequences = plan.max_group_sequences,
                         .max_group_queries = plan.max_group_queries,
                         .wants_weights = plan.wants_weights,
                         .queries_with_keys = queries_with_keys};
  for (WorkerScratch& worker : workers) {
    ForEachScratchSize(layer, sizes, [&](Buffer WorkerScratch::*buffer, int64_t bytes) {
      ok = ok && (worker.*buffer).Reserve(bytes);
    });
  }
  return ok;
}

void TiledWorkspace::ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit) {
  rope.ForEachBuffer(visit);
  for (OperandBuffer* operands : {&query_operands, &key_operands, &value_operands, &concat_operands}) {
    operands->ForEachBuffer(visit);
  }
  visit(concat);
  for (WorkerScratch& w : workers) {
    for (Buffer* buffer : {&w.projected, &w.finished, &w.queries, &w.scores, &w.probabilities, &w.acc,
                           &w.reference, &w.sum, &w.exponent_sum, &w.tile_factors, &w.gemm, &w.all_queries,
                           &w.packed_keys, &w.packed_values, &w.summaries}) {
      visit(*buffer);
    }
  }
}

int64_t TiledWorkspaceBytes(const TiledLayer& layer, const ForwardShape& shape, int num_threads) {
  const AttentionConfig& config = layer.config;
  int64_t worker_bytes = 0;
  ForEachScratchSize(layer, BoundOf(layer, shape), [&](Buffer WorkerScratch::*, int64_t bytes) {
    worker_bytes += Buffer::RoundedBytes(bytes);
  });
  int64_t bytes = num_threads * worker_bytes + WorkPlan::ListBytes(shape, config) +
                  Buffer::RoundedBytes(shape.tokens * layer.ConcatRowBytes()) +
                  OperandBuffer::Bytes(config.precision, shape.tokens, config.embed_dim);
  if (config.precision == Precision::kInt8) {
    bytes += OperandBuffer::Bytes(config.precision, shape.tokens, config.q_width());
  }
  if (!shape.self_attention) {
    bytes += OperandBuffer::Bytes(config.precision, shape.kv_tokens, config.kdim) +
             OperandBuffer::Bytes(config.precision, shape.kv_tokens, config.vdim);
  }
  if (config.rope) {
    const int64_t positions = shape.longest_kv + (shape.self_attention ? 0 : shape.longest);
    bytes += RopeTable::Bytes(*config.rope, positions);
  }
  return bytes;
}

}  // namespace headlight
