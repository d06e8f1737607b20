// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled_kernel.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/attention/weights_writer.h"
#include "core/tensor/buffer.h"

namespace headlight {

// What one thread works in. Sizes as in TiledWorkspace::Reserve.
struct WorkerScratch {
  Buffer projected;  // [kProjectionRows, padded head_dim], a projection before bias and packing
  Buffer queries;    // [kProjectionRows, padded head_dim], scaled
  Buffer scores;     // [kQueryBlockRows, kScoreStride]
  Buffer acc;        // [kQueryBlockRows, padded head_dim]
  Buffer row_max;    // [kQueryBlockRows]
  Buffer row_sum;    // [kQueryBlockRows]
  Buffer tile_max;   // [tiles, kQueryBlockRows]
  Buffer mean_rows;  // [kQueryBlockRows, kv_len]
  Buffer gemm;
  Buffer packed_keys;  // [keys of the group, padded head_dim]; belongs to the item the thread has begun
  Buffer packed_values;
};

namespace {

constexpr double kLog2E = 1.4426950408889634;
// One granule more than a tile: rows a power of two apart would share cache sets.
constexpr int64_t kScoreStride = kKeyTile + kLaneGranule;

// The columns of one head of a weight matrix [rows, num_heads * head_dim].
MatrixView HeadColumns(const std::vector<float>& matrix, int64_t rows, int64_t num_heads, int64_t head_dim,
                       int64_t head) {
  return {matrix.data() + head * head_dim, rows, head_dim, num_heads * head_dim};
}

std::vector<PanelMatrix> PackHeads(const std::vector<float>& matrix, int64_t rows, int64_t num_heads,
                                   int64_t head_dim) {
  std::vector<PanelMatrix> heads;
  heads.reserve(num_heads);
  for (int64_t head = 0; head < num_heads; ++head) {
    heads.emplace_back(HeadColumns(matrix, rows, num_heads, head_dim, head), RoundUpToLanes(head_dim));
  }
  return heads;
}

std::vector<float> PadBias(const std::vector<float>& bias, int64_t num_heads, int64_t head_dim) {
  const int64_t padded = RoundUpToLanes(head_dim);
  std::vector<float> out(num_heads * padded, 0.0f);
  if (bias.empty()) return out;
  for (int64_t head = 0; head < num_heads; ++head) {
    std::copy_n(bias.data() + head * head_dim, head_dim, out.data() + head * padded);
  }
  return out;
}

}  // namespace

class TiledWorkspace final : public Workspace {
 public:
  explicit TiledWorkspace(int num_threads) : workers(num_threads) {}

  // Makes room for the batch that `plan` divides. False when memory is short.
  bool Reserve(int64_t q_tokens, int64_t q_width, int64_t padded_head_dim, int64_t gemm_scratch_bytes) {
    const auto floats = [](Buffer& buffer, int64_t n) { return buffer.Reserve(n * int64_t{sizeof(float)}); };
    const int64_t tiles = plan.max_kv_len / kKeyTile + 2;
    bool ok = floats(concat, q_tokens * q_width);
    for (WorkerScratch& w : workers) {
      ok = ok && floats(w.projected, kProjectionRows * padded_head_dim) &&
           floats(w.queries, kProjectionRows * padded_head_dim) &&
           floats(w.scores, kQueryBlockRows * kScoreStride) &&
           floats(w.acc, kQueryBlockRows * padded_head_dim) && floats(w.row_max, kQueryBlockRows) &&
           floats(w.row_sum, kQueryBlockRows) && floats(w.tile_max, tiles * kQueryBlockRows) &&
           (!plan.wants_mean || floats(w.mean_rows, kQueryBlockRows * plan.max_kv_len)) &&
           w.gemm.Reserve(gemm_scratch_bytes) &&
           floats(w.packed_keys, plan.max_packed_keys * padded_head_dim) &&
           floats(w.packed_values, plan.max_packed_keys * padded_head_dim);
    }
    return ok;
  }

  WorkPlan plan;
  Buffer concat;  // [q_tokens, num_heads * head_dim], the heads' outputs side by side
  std::vector<WorkerScratch> workers;
};

TiledKernel::TiledKernel(const GemmProvider& provider, const AttentionConfig& config,
                         const AttentionWeights& weights)
    : provider_(provider),
      config_(config),
      padded_head_dim_(RoundUpToLanes(config.head_dim)),
      wq_(PackHeads(weights.wq, config.embed_dim, config.num_heads, config.head_dim)),
      wk_(PackHeads(weights.wk, config.kdim, config.num_kv_heads, config.head_dim)),
      wv_(PackHeads(weights.wv, config.vdim, config.num_kv_heads, config.head_dim)),
      wo_({weights.wo.data(), config.q_width(), config.embed_dim, config.embed_dim}, config.embed_dim),
      bq_(PadBias(weights.bq, config.num_heads, config.head_dim)),
      bk_(PadBias(weights.bk, config.num_kv_heads, config.head_dim)),
      bv_(PadBias(weights.bv, config.num_kv_heads, config.head_dim)),
      bo_(weights.bo),
      project_q_(provider, config.embed_dim, padded_head_dim_, config.embed_dim, padded_head_dim_),
      project_k_(provider, config.kdim, padded_head_dim_, config.kdim, padded_head_dim_),
      project_v_(provider, config.vdim, padded_head_dim_, config.vdim, padded_head_dim_),
      project_out_(provider, config.q_width(), config.embed_dim, config.q_width(), config.embed_dim) {
  for (int64_t keys = kLaneGranule; keys <= kPanelCols; keys += kLaneGranule) {
    score_keys_.push_back(provider.Make(
        {.n = keys, .k = padded_head_dim_, .lda = padded_head_dim_, .ldb = keys, .ldc = kScoreStride}));
  }
  for (int64_t depth : kValueDepths) {
    add_values_.push_back(provider.Make({.n = padded_head_dim_,
                                         .k = depth,
                                         .lda = kScoreStride,
                                         .ldb = padded_head_dim_,
                                         .ldc = padded_head_dim_,
                                         .accumulate = true}));
  }
}

std::unique_ptr<Workspace> TiledKernel::NewWorkspace(const ComputeArena& arena) const {
  return std::make_unique<TiledWorkspace>(arena.num_threads());
}

int64_t TiledKernel::MaxScratchBytes() const {
  int64_t bytes = std::max({project_q_.scratch_bytes(), project_k_.scratch_bytes(),
                            project_v_.scratch_bytes(), project_out_.scratch_bytes()});
  for (const auto& gemm : score_keys_) bytes = std::max(bytes, gemm->scratch_bytes());
  for (const auto& gemm : add_values_) bytes = std::max(bytes, gemm->scratch_bytes());
  return bytes;
}

absl::Status TiledKernel::Run(const AttentionBatch& batch, ComputeArena& arena, Workspace& workspace) const {
  auto& ws = static_cast<TiledWorkspace&>(workspace);
  ws.plan.Build(batch, config_, arena.num_threads());
  if (!ws.Reserve(batch.query.rows, config_.q_width(), padded_head_dim_, MaxScratchBytes())) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory to attend over ", batch.query.rows,
                                                     " query tokens and ", batch.key.rows, " key tokens"));
  }
  arena.ForEach(static_cast<int64_t>(ws.plan.items.size()),
                [&](int64_t i, int worker) { RunItem(batch, ws.plan.items[i], arena, ws, worker); });
  ProjectOutput(batch, arena, ws);
  return absl::OkStatus();
}

void TiledKernel::RunItem(const AttentionBatch& batch, const WorkItem& item, ComputeArena& arena,
                          TiledWorkspace& ws, int worker) const {
  const SequenceGroup& group = ws.plan.groups[item.group];
  const PackedKeys packed{ws.workers[worker].packed_keys.floats(), ws.workers[worker].packed_values.floats()};
  // The chunks of an item go to one thread, or to all of them when there are too few items.
  const auto for_each_chunk = [&](int64_t first, int64_t end, const auto& body) {
    if (ws.plan.split_items && end - first > 1) {
      arena.ForEach(end - first, [&](int64_t i, int w) { body(first + i, ws.workers[w]); });
    } else {
      for (int64_t i = first; i < end; ++i) body(i, ws.workers[worker]);
    }
  };
  for (int64_t kv_head = item.first_kv_head; kv_head < item.end_kv_head; ++kv_head) {
    for_each_chunk(group.first_key_chunk, group.end_key_chunk, [&](int64_t chunk, WorkerScratch& scratch) {
      ProjectKeys(batch, ws.plan.key_chunks[chunk], kv_head, ws, scratch, packed);
    });
    for_each_chunk(
        group.first_query_chunk, group.end_query_chunk, [&](int64_t chunk, WorkerScratch& scratch) {
          const int64_t first_head = kv_head * config_.heads_per_kv_head();
          for (int64_t head = first_head; head < first_head + config_.heads_per_kv_head(); ++head) {
            ProjectQueries(batch, ws.plan.query_chunks[chunk], head, scratch);
            AttendChunk(batch, ws.plan.query_chunks[chunk], head, ws, scratch, packed);
          }
        });
  }
}

void TiledKernel::ProjectKeys(const AttentionBatch& batch, const KeyChunk& chunk, int64_t kv_head,
                              TiledWorkspace& ws, WorkerScratch& scratch, const PackedKeys& packed) const {
  const float* bk = bk_.data() + kv_head * padded_head_dim_;
  const float* bv = bv_.data() + kv_head * padded_head_dim_;
  float* projected = scratch.projected.floats();
  // Calls pack(first row in `projected`, sequence, its first key, its keys) for each sequence's part of the
  // chunk.
  const auto for_each_part = [&](const auto& pack) {
    const int64_t end_row = chunk.first_row + chunk.rows;
    int64_t sequence = chunk.first_sequence;
    for (int64_t row = chunk.first_row; row < end_row; ++sequence) {
      const int64_t end = std::min(end_row, batch.cu_kv_lens[sequence + 1]);
      pack(row - chunk.first_row, sequence, row - batch.cu_kv_lens[sequence], end - row);
      row = end;
    }
  };

  project_k_.Run(chunk.rows, batch.key.Row(chunk.first_row), wk_[kv_head], projected, scratch.gemm.bytes());
  for_each_part([&](int64_t row, int64_t sequence, int64_t first_key, int64_t num_keys) {
    float* keys = packed.keys + ws.plan.packed_key_row[sequence] * padded_head_dim_;
    const int64_t padded_kv_len = RoundUpToLanes(batch.kv_len(sequence));
    for (int64_t done = 0; done < num_keys; done += kPanelCols) {
      const int64_t key = first_key + done;  // a multiple of kPanelCols
      TransposeKeys({projected + (row + done) * padded_head_dim_, std::min(kPanelCols, num_keys - done),
                     padded_head_dim_, padded_head_dim_},
                    bk, keys + key * padded_head_dim_, std::min(kPanelCols, padded_kv_len - key));
    }
  });

  project_v_.Run(chunk.rows, batch.value.Row(chunk.first_row), wv_[kv_head], projected, scratch.gemm.bytes());
  for_each_part([&](int64_t row, int64_t sequence, int64_t first_key, int64_t num_keys) {
    float* values = packed.values + (ws.plan.packed_key_row[sequence] + first_key) * padded_head_dim_;
    AddBiasAndScale({projected + row * padded_head_dim_, num_keys, padded_head_dim_, padded_head_dim_}, bv,
                    1.0f, {values, num_keys, padded_head_dim_, padded_head_dim_});
    // Padding meets zero weights, and 0 * garbage could be NaN.
    std::fill(values + num_keys * padded_head_dim_, values + RoundUpToLanes(num_keys) * padded_head_dim_,
              0.0f);
  });
}

void TiledKernel::ProjectQueries(const AttentionBatch& batch, const QueryChunk& chunk, int64_t head,
                                 WorkerScratch& scratch) const {
  project_q_.Run(chunk.rows, batch.query.Row(chunk.first_row), wq_[head], scratch.projected.floats(),
                 scratch.gemm.bytes());
  // The softmax works in powers of two: e^s = 2^(s log2 e).
  const float scale = static_cast<float>(*config_.scale * kLog2E);
  AddBiasAndScale({scratch.projected.floats(), chunk.rows, padded_head_dim_, padded_head_dim_},
                  bq_.data() + head * padded_head_dim_, scale,
                  {scratch.queries.floats(), chunk.rows, padded_head_dim_, padded_head_dim_});
}

void TiledKernel::AttendChunk(const AttentionBatch& batch, const QueryChunk& chunk, int64_t head,
                              TiledWorkspace& ws, WorkerScratch& scratch, const PackedKeys& packed) const {
  int64_t row = chunk.first_row;
  for (int64_t i = chunk.first_block; i < chunk.end_block; ++i) {
    const QueryBlock& block = ws.plan.query_blocks[i];
    const SequenceOptions& sequence = batch.sequences[block.sequence];
    if (sequence.cancelled == nullptr || !sequence.cancelled->IsCancelled()) {
      const int64_t first_packed = ws.plan.packed_key_row[block.sequence] * padded_head_dim_;
      AttendBlock(batch, block, head, scratch.queries.floats() + (row - chunk.first_row) * padded_head_dim_,
                  {packed.keys + first_packed, packed.values + first_packed}, scratch,
                  {ws.concat.floats() + row * config_.q_width() + head * config_.head_dim, block.rows,
                   config_.head_dim, config_.q_width()});
    }
    row += block.rows;
  }
}

void TiledKernel::AttendBlock(const AttentionBatch& batch, const QueryBlock& block, int64_t head,
                              const float* queries, const PackedKeys& keys, WorkerScratch& scratch,
                              MutableMatrixView out) const {
  const SequenceOptions& sequence = batch.sequences[block.sequence];
  const int64_t q_len = batch.q_len(block.sequence);
  const int64_t kv_len = batch.kv_len(block.sequence);
  const SoftmaxState state{scratch.row_max.floats(),
                           scratch.row_sum.floats(),
                           {scratch.acc.floats(), block.rows, padded_head_dim_, padded_head_dim_}};
  std::fill_n(state.row_max, block.rows, -std::numeric_limits<float>::infinity());
  std::fill_n(state.row_sum, block.rows, 0.0f);
  std::fill_n(state.acc.data, block.rows * padded_head_dim_, 0.0f);
  WeightsWriter writer(sequence.weights, head, config_.num_heads, kv_len, block,
                       {scratch.tile_max.floats(), scratch.mean_rows.floats()});

  // The bounds of what a query sees grow with the query, so the first and the last one bound the block.
  const KeyRange first = VisibleKeys(sequence.visibility, block.first_query, q_len, kv_len);
  const KeyRange last = VisibleKeys(sequence.visibility, block.first_query + block.rows - 1, q_len, kv_len);
  const int64_t begin = first.begin / kPanelCols * kPanelCols;
  for (int64_t key = begin; key < last.end; key += kKeyTile) {
    const int64_t num_keys = std::min(kKeyTile, last.end - key);
    ScoreKeys(block.rows, queries, keys.keys, key, num_keys, kv_len, scratch);
    const ScoreTile tile{.scores = {scratch.scores.floats(), block.rows, num_keys, kScoreStride},
                         .first_query = block.first_query,
                         .first_key = key,
                         .q_len = q_len,
                         .kv_len = kv_len,
                         .head = head};
    SoftmaxTile(tile, sequence.visibility, sequence.mask, state);
    writer.AddTile(tile, state.row_max);
    AddValues(block.rows, keys.values + key * padded_head_dim_, num_keys, scratch);
  }
  writer.Finish(state);
  Normalise(state, out);
}

void TiledKernel::ScoreKeys(int64_t rows, const float* queries, const float* keys, int64_t first_key,
                            int64_t num_keys, int64_t kv_len, WorkerScratch& scratch) const {
  const int64_t padded_kv_len = RoundUpToLanes(kv_len);
  for (int64_t done = 0; done < num_keys; done += kPanelCols) {
    const int64_t key = first_key + done;
    const int64_t width = std::min(kPanelCols, padded_kv_len - key);
    score_keys_[width / kLaneGranule - 1]->Run(rows, queries, keys + key * padded_head_dim_,
                                               scratch.scores.floats() + done, scratch.gemm.bytes());
  }
}

void TiledKernel::AddValues(int64_t rows, const float* values, int64_t num_keys,
                            WorkerScratch& scratch) const {
  int64_t done = 0;
  for (size_t i = 0; i < kValueDepths.size(); ++i) {
    for (; RoundUpToLanes(num_keys) - done >= kValueDepths[i]; done += kValueDepths[i]) {
      add_values_[i]->Run(rows, scratch.scores.floats() + done, values + done * padded_head_dim_,
                          scratch.acc.floats(), scratch.gemm.bytes());
    }
  }
}

void TiledKernel::ProjectOutput(const AttentionBatch& batch, ComputeArena& arena, TiledWorkspace& ws) const {
  const int64_t row_blocks = (batch.query.rows + kProjectionRows - 1) / kProjectionRows;
  const int64_t wanted_splits = (4 * arena.num_threads() + row_blocks - 1) / row_blocks;
  const int64_t splits = std::min(wo_.num_panels(), arena.num_threads() == 1 ? 1 : wanted_splits);
  arena.ForEach(row_blocks * splits, [&](int64_t item, int worker) {
    const int64_t first_row = item / splits * kProjectionRows;
    const int64_t rows = std::min(kProjectionRows, batch.query.rows - first_row);
    const int64_t first_panel = item % splits * wo_.num_panels() / splits;
    const int64_t end_panel = (item % splits + 1) * wo_.num_panels() / splits;
    project_out_.Run(rows, ws.concat.floats() + first_row * config_.q_width(), wo_, first_panel, end_panel,
                     batch.output.Row(first_row), ws.workers[worker].gemm.bytes());
    if (bo_.empty()) return;
    const int64_t first_col = first_panel * kPanelCols;
    const int64_t cols = std::min(end_panel * kPanelCols, config_.embed_dim) - first_col;
    for (int64_t row = first_row; row < first_row + rows; ++row) {
      ScaleAndAdd(bo_.data() + first_col, cols, 1.0f, batch.output.Row(row) + first_col);
    }
  });
}

}  // namespace headlight
