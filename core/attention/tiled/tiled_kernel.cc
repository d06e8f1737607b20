// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/tiled_kernel.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/attention/interruption.h"
#include "core/attention/maps/map_writer.h"
#include "core/attention/tiled/block_attention.h"
#include "core/attention/tiled/packed_keys.h"
#include "core/attention/tiled/rotate.h"

namespace headlight {
namespace {

// Converts rows of `buffer`, a few at a time, for as long as it may go on.
void ConvertRows(const OperandBuffer& buffer, int64_t first_row, int64_t rows,
                 const Interruption& interruption) {
  constexpr int64_t kRowsAtOnce = 32;
  for (int64_t done = 0; done < rows && interruption.MayGoOn(); done += kRowsAtOnce) {
    buffer.Convert(first_row + done, std::min(kRowsAtOnce, rows - done));
  }
}

// For a head; what a block's queries and keys say of distances is not in it.
template <typename T>
ScoreRules RulesOf(const PackedLayer<T>& layer, const AttentionBatch& batch, int64_t sequence, int64_t head) {
  const AttentionConfig& config = layer.config;
  const int64_t kv_len = batch.kv_len(sequence);
  ScoreRules rules;
  rules.visibility = VisibilityOf(config, batch.sequences[sequence]);
  rules.mask = batch.sequences[sequence].mask;
  rules.softcap = static_cast<float>(config.logit_softcap * std::numbers::log2e);
  if (config.alibi) {
    rules.alibi_slope = static_cast<float>(AlibiSlope(head, config.num_heads) * std::numbers::log2e);
  }
  if (config.relative_bias) {
    rules.max_distance = config.relative_bias->max_distance;
    rules.distance_bias =
        layer.distance_bias.data() + head * (2 * rules.max_distance + 1) + rules.max_distance;
  }
  if (config.sinks) rules.sink = layer.sinks[head];
  rules.head = head;
  rules.q_len = batch.q_len(sequence);
  rules.kv_len = kv_len;
  rules.num_keys = kv_len + config.num_appended_keys();
  return rules;
}

}  // namespace

// One work item on its way: a group of sequences and one key/value head after the other.
template <typename T>
class TiledKernel<T>::Item {
 public:
  Item(const TiledKernel& kernel, const AttentionBatch& batch, const WorkItem& item,
       TiledWorkspace& workspace, int worker, GroupMemory& memory)
      : kernel_(kernel),
        layer_(kernel.layer_),
        batch_(batch),
        ws_(workspace),
        group_(workspace.plan.groups[item.group]),
        split_(item.split),
        worker_(worker),
        memory_(memory),
        packer_(layer_, batch, workspace, group_, memory),
        num_sequences_(group_.end_sequence - group_.first_sequence),
        group_heads_(layer_.config.heads_per_kv_head()),
        sequences_(batch.sequences.subspan(group_.first_sequence, num_sequences_)) {}

  bool AnyoneWaitsForIt() const { return AnyoneWaits(sequences_); }

  void Run(int64_t kv_head) {
    first_head_ = kv_head * group_heads_;
    BeginSummaries();
    ForEachChunk(group_.first_key_chunk, group_.end_key_chunk,
                 [&](int64_t i, WorkerScratch& scratch) { ProjectChunk(i, kv_head, scratch); });
    ForEachChunk(group_.first_query_chunk, group_.end_query_chunk,
                 [&](int64_t i, WorkerScratch& scratch) { AttendChunk(i, scratch); });
    FinishSummaries();
    FinishGrids();
  }

 private:
  // The chunks of an item go to one thread, or to all of them when there are too few items.
  template <typename Body>
  void ForEachChunk(int64_t first, int64_t end, const Body& body) {
    if (split_ && end - first > 1) {
      ws_.arena->ForEach(end - first, [&](int64_t i, int worker) {
        layer_.provider.BeginWork();
        body(first + i, ws_.workers[worker]);
      });
    } else {
      for (int64_t i = first; i < end && AnyoneWaitsForIt(); ++i) body(i, ws_.workers[worker_]);
    }
  }

  // Calls body(sink, place of the head in it, sequence of the batch, head of the group) for what asks for
  // `mode`.
  template <typename Body>
  void ForEachSink(WeightsSink::Mode mode, const Body& body) {
    for (int64_t h = 0; h < group_heads_; ++h) {
      for (int64_t s = group_.first_sequence; s < group_.end_sequence; ++s) {
        const WeightsSink& sink = batch_.sequences[s].weights;
        if (sink.mode != mode) continue;
        const int64_t place = sink.HeadPlace(first_head_ + h);
        if (place >= 0) body(sink, place, s, h);
      }
    }
  }

  SummarySums* SummaryOf(int64_t head_of_group, int64_t sequence) const {
    return memory_.summaries.As<SummarySums>() + head_of_group * num_sequences_ +
           (sequence - group_.first_sequence);
  }

  void BeginSummaries() {
    ForEachSink(WeightsSink::Mode::kSummary,
                [&](const WeightsSink& sink, int64_t place, int64_t s, int64_t h) {
                  *SummaryOf(h, s) = {};
                  std::fill_n(sink.received_mass + place * sink.received_stride,
                              batch_.kv_len(s) + layer_.config.num_appended_keys(), 0.0f);
                });
  }

  void FinishSummaries() {
    ForEachSink(WeightsSink::Mode::kSummary,
                [&](const WeightsSink& sink, int64_t place, int64_t s, int64_t h) {
                  FinishSummary(*SummaryOf(h, s), sink.data + place * sink.head_stride);
                });
  }

  // Of a head of the group, where one of its sequences asks for a grid.
  float* GridPartsOf(int64_t head_of_group) const {
    return memory_.grid_parts.floats() +
           head_of_group * GridPlaces(FirstQueryOf(group_.end_sequence)) * 2 * kMaxGridCells;
  }

  // Of the group; its number of queries for the sequence behind it.
  int64_t FirstQueryOf(int64_t sequence) const {
    return batch_.cu_q_lens[sequence] - batch_.cu_q_lens[group_.first_sequence];
  }

  void FinishGrids() {
    ForEachSink(WeightsSink::Mode::kGrid, [&](const WeightsSink& sink, int64_t place, int64_t s, int64_t h) {
      if (IsCancelled(batch_.sequences[s])) return;
      const auto of_sequence = std::ranges::equal_range(ws_.plan.query_blocks, s, {}, &QueryBlock::sequence);
      FinishGrid(sink, batch_.q_len(s), batch_.kv_len(s) + layer_.config.num_appended_keys(),
                 {of_sequence.begin(), of_sequence.end()}, FirstQueryOf(s), GridPartsOf(h),
                 sink.data + place * sink.head_stride);
    });
  }

  // Keys and values, and the queries too where they are made of the same rows.
  void ProjectChunk(int64_t i, int64_t kv_head, WorkerScratch& scratch) {
    const KeyChunk& chunk = ws_.plan.key_chunks[i];
    if (!packer_.Pack(chunk, kv_head, scratch)) return;
    for (int64_t h = 0; h < group_heads_ && ws_.queries_with_keys; ++h) {
      if (!ProjectQueries(chunk.first_row, chunk.rows, first_head_ + h, scratch,
                          QueriesAt(h, chunk.first_row))) {
        return;
      }
    }
  }

  void AttendChunk(int64_t i, WorkerScratch& scratch) {
    const QueryChunk& chunk = ws_.plan.query_chunks[i];
    for (int64_t h = 0; h < group_heads_; ++h) {
      T* queries = scratch.queries.As<T>();
      if (ws_.queries_with_keys) {
        queries = QueriesAt(h, chunk.first_row);
      } else if (!ProjectQueries(chunk.first_row, chunk.rows, first_head_ + h, scratch, queries)) {
        return;
      }
      AttendBlocks(chunk, h, queries, scratch);
    }
    if (ws_.plan.max_kept_keys > 0) FinishStreams();
  }

  // Of a row of the batch, among all queries of the group.
  T* QueriesAt(int64_t head_of_group, int64_t row) const {
    const int64_t first = batch_.cu_q_lens[group_.first_sequence];
    const int64_t num_queries = batch_.cu_q_lens[group_.end_sequence] - first;
    return memory_.all_queries.As<T>() + (head_of_group * num_queries + row - first) * layer_.padded_head_dim;
  }

  // False where nobody waits for them any more.
  bool ProjectQueries(int64_t first_row, int64_t num_rows, int64_t head, WorkerScratch& scratch, T* queries);
  void AttendBlocks(const QueryChunk& chunk, int64_t head_of_group, const T* queries, WorkerScratch& scratch);
  // With disentangled attention: what the block's queries and its sequence's keys say of distances.
  DistanceScores DistanceScoresOf(const QueryBlock& block, int64_t head, const T* queries,
                                  WorkerScratch& scratch) const;

  const TiledKernel& kernel_;
  const PackedLayer<T>& layer_;
  const AttentionBatch& batch_;
  TiledWorkspace& ws_;
  const SequenceGroup& group_;
  const bool split_;
  const int worker_;
  GroupMemory& memory_;
  const KeyPacker<T> packer_;
  const int64_t num_sequences_;
  const int64_t group_heads_;  // heads of a kv head
  const std::span<const SequenceOptions> sequences_;
  int64_t first_head_ = 0;  // of the kv head at work
};

template <typename T>
bool TiledKernel<T>::Item::ProjectQueries(int64_t first_row, int64_t num_rows, int64_t head,
                                          WorkerScratch& scratch, T* queries) {
  float* projected = scratch.projected.floats();
  if constexpr (std::is_same_v<T, float>) projected = queries;
  const BatchInterruption interruption(*ws_.arena, batch_.sequences, batch_.cu_q_lens, first_row, num_rows);
  if (!layer_.project_q.Run(num_rows, ws_.query.From(first_row), layer_.wq[head], projected,
                            scratch.gemm.bytes(), interruption, layer_.OfHead(layer_.bq, head),
                            layer_.AfterQueries(head))) {
    return false;
  }
  const float* const factors = layer_.config.qk_norm == QkNorm::kAllHeads ? ws_.q_factors.floats() : nullptr;
  const auto finish = [&](int64_t row, int64_t rows, const Rotation& rotation) {
    FinishRows(layer_.Padded(projected + row * layer_.padded_head_dim, rows),
               layer_.NormOf(layer_.q_norm, head, factors, first_row + row), rotation,
               layer_.Padded(queries + row * layer_.padded_head_dim, rows));
  };
  if (layer_.rope == nullptr) {
    if (!std::is_same_v<T, float> || !layer_.q_norm.empty()) finish(0, num_rows, {});
    return true;
  }
  ForEachPart(batch_.cu_q_lens, first_row, num_rows,
              [&](int64_t row, int64_t rows, int64_t sequence, int64_t first_query) {
                const int64_t position = first_query + batch_.kv_len(sequence) - batch_.q_len(sequence);
                finish(row, rows, RotationFrom(layer_, ws_, position, rows));
              });
  return true;
}

template <typename T>
DistanceScores TiledKernel<T>::Item::DistanceScoresOf(const QueryBlock& block, int64_t head, const T* queries,
                                                      WorkerScratch& scratch) const {
  DistanceScores scores{.stride = layer_.distance_cols,
                        .first_query = block.first_query,
                        .cols = ws_.distance_rows.As<int32_t>() + ws_.longest};
  if (!layer_.distance_keys.empty()) {
    float* const out = scratch.distance_scores.floats();
    const int64_t len = std::max(batch_.q_len(block.sequence), batch_.kv_len(block.sequence));
    layer_.ScoreDistances(layer_.distance_keys, head, len, queries, block.rows, out, scratch.gemm.bytes());
    scores.of_queries = out;
  }
  if (!layer_.distance_queries.empty()) scores.of_keys = packer_.KeyDistanceScores(block.sequence);
  return scores;
}

template <typename T>
void TiledKernel<T>::Item::AttendBlocks(const QueryChunk& chunk, int64_t head_of_group, const T* queries,
                                        WorkerScratch& scratch) {
  const AttentionConfig& config = layer_.config;
  const int64_t head = first_head_ + head_of_group;
  const int64_t element_bytes = config.precision == Precision::kBf16 ? sizeof(Bf16) : sizeof(float);
  int64_t row = chunk.first_row;
  for (int64_t i = chunk.first_block; i < chunk.end_block; ++i) {
    const QueryBlock& block = ws_.plan.query_blocks[i];
    const SequenceOptions& sequence = batch_.sequences[block.sequence];
    if (!IsCancelled(sequence)) {
      const T* const block_queries = queries + (row - chunk.first_row) * layer_.padded_head_dim;
      ScoreRules rules = RulesOf(layer_, batch_, block.sequence, head);
      if (config.disentangled) rules.distance_scores = DistanceScoresOf(block, head, block_queries, scratch);
      const KeyPanels<T> keys = packer_.PanelsOf(block.sequence, head / group_heads_);
      const BatchInterruption interruption(*ws_.arena, batch_.sequences.subspan(block.sequence, 1));
      const bool asks_for_grid = sequence.weights.mode == WeightsSink::Mode::kGrid;
      MapWriter<T> writer(sequence.weights,
                          {head, config.num_heads, rules.q_len, rules.kv_len, rules.num_keys}, block,
                          {.tile_factors = scratch.tile_factors.floats(),
                           .summary = SummaryOf(head_of_group, block.sequence),
                           .cell_sums = scratch.cell_sums.floats(),
                           .grid_parts = asks_for_grid ? GridPartsOf(head_of_group) : nullptr,
                           .first_query = FirstQueryOf(block.sequence)});
      BlockAttention<T>(layer_, keys, rules, block, scratch, interruption)
          .Run(block_queries, writer,
               ws_.concat.bytes() + row * kernel_.concat_row_bytes_ + head * config.head_dim * element_bytes,
               kernel_.concat_row_bytes_);
    }
    row += block.rows;
  }
}

template <typename T>
absl::Status TiledKernel<T>::Run(const AttentionBatch& batch, ComputeArena& arena,
                                 Workspace& workspace) const {
  auto& ws = static_cast<TiledWorkspace&>(workspace);
  if (!AnyoneWaits(batch.sequences)) return absl::OkStatus();
  ws.arena = &arena;
  ws.plan.Build(batch, layer_.config, kGranule<T>, arena.num_threads());
  const bool has_angles =
      layer_.rope == nullptr || ws.ReserveAngles(*layer_.config.rope, *layer_.rope, batch);
  if (!has_angles || !ws.Reserve(layer_.Sizes(), batch)) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory to attend over ", batch.query.rows,
                                                     " query tokens and ", batch.key.rows, " key tokens"));
  }
  ConvertInputs(batch, arena, ws);
  if (layer_.config.qk_norm == QkNorm::kAllHeads) FindNormFactors(batch, arena, ws);
  if (layer_.config.disentangled) {
    auto* const rows = ws.distance_rows.As<int32_t>();
    for (int64_t i = 0; i <= 2 * ws.longest; ++i) {
      rows[i] = static_cast<int32_t>(DisentangledRow(*layer_.config.disentangled, ws.longest - i));
    }
  }
  arena.ForEach(static_cast<int64_t>(ws.plan.items.size()), [&](int64_t i, int worker) {
    layer_.provider.BeginWork();
    const WorkItem& work = ws.plan.items[i];
    const GroupInUse group(ws);
    Item item(*this, batch, work, ws, worker, group.memory());
    for (int64_t kv_head = work.first_kv_head; kv_head < work.end_kv_head && item.AnyoneWaitsForIt();
         ++kv_head) {
      item.Run(kv_head);
    }
  });
  ProjectOutput(batch, arena, ws);
  return absl::OkStatus();
}

template <typename T>
void TiledKernel<T>::ConvertInputs(const AttentionBatch& batch, ComputeArena& arena,
                                   TiledWorkspace& ws) const {
  const auto convert = [&](const OperandBuffer& buffer, int64_t rows, std::span<const int64_t> cu_lens) {
    if (layer_.config.precision != Precision::kF32) {
      arena.ForEach((rows + kProjectionRows - 1) / kProjectionRows, [&](int64_t block, int) {
        const int64_t first_row = block * kProjectionRows;
        const int64_t block_rows = std::min(kProjectionRows, rows - first_row);
        ConvertRows(buffer, first_row, block_rows,
                    BatchInterruption(arena, batch.sequences, cu_lens, first_row, block_rows));
      });
    }
    return buffer.view();
  };
  ClearPaddingOfConcat(batch, ws);
  ws.query = convert(ws.query_operands, batch.query.rows, batch.cu_q_lens);
  ws.key = batch.key == batch.query ? ws.query : convert(ws.key_operands, batch.key.rows, batch.cu_kv_lens);
  ws.value =
      batch.value == batch.key ? ws.key : convert(ws.value_operands, batch.value.rows, batch.cu_kv_lens);
}

// What the norms of all heads together multiply rows of queries and keys by: each head is projected for it,
// and once more when it attends.
template <typename T>
void TiledKernel<T>::FindNormFactors(const AttentionBatch& batch, ComputeArena& arena,
                                     TiledWorkspace& ws) const {
  const auto find = [&](const PanelGemm& project, const std::vector<PanelMatrix>& heads,
                        const std::vector<float>& biases, const Operands& input, int64_t rows,
                        std::span<const int64_t> cu_lens, float* factors) {
    arena.ForEach((rows + kProjectionRows - 1) / kProjectionRows, [&](int64_t block, int worker) {
      layer_.provider.BeginWork();
      const int64_t first = block * kProjectionRows;
      const int64_t count = std::min(kProjectionRows, rows - first);
      const BatchInterruption interruption(arena, batch.sequences, cu_lens, first, count);
      WorkerScratch& scratch = ws.workers[worker];
      double squares[kProjectionRows] = {};
      const auto num_heads = static_cast<int64_t>(heads.size());
      for (int64_t head = 0; head < num_heads; ++head) {
        if (!project.Run(count, input.From(first), heads[head], scratch.projected.floats(),
                         scratch.gemm.bytes(), interruption, layer_.OfHead(biases, head),
                         heads[(head + 1) % num_heads].PanelAhead(0))) {
          return;
        }
        AddSquares(Const(layer_.Padded(scratch.projected.floats(), count)), squares);
      }
      const auto width = static_cast<double>(num_heads * layer_.config.head_dim);
      for (int64_t row = 0; row < count; ++row) {
        factors[first + row] =
            static_cast<float>(1.0 / std::sqrt(squares[row] / width + layer_.config.qk_norm_eps));
      }
    });
  };
  find(layer_.project_q, layer_.wq, layer_.bq, ws.query, batch.query.rows, batch.cu_q_lens,
       ws.q_factors.floats());
  find(layer_.project_k, layer_.wk, layer_.bk, ws.key, batch.key.rows, batch.cu_kv_lens,
       ws.k_factors.floats());
}

// Columns of padding in the heads' outputs meet parameters of zero, and 0 * garbage could be NaN.
template <typename T>
void TiledKernel<T>::ClearPaddingOfConcat(const AttentionBatch& batch, TiledWorkspace& ws) const {
  const AttentionConfig& config = layer_.config;
  const int64_t filled_bytes = config.q_width() * OperandBytes(config.precision);
  if (config.precision != Precision::kBf16 || filled_bytes == concat_row_bytes_) return;
  for (int64_t row = 0; row < batch.query.rows; ++row) {
    std::byte* const end = ws.concat.bytes() + (row + 1) * concat_row_bytes_;
    std::fill(end - (concat_row_bytes_ - filled_bytes), end, std::byte{0});
  }
}

template <typename T>
void TiledKernel<T>::ProjectOutput(const AttentionBatch& batch, ComputeArena& arena,
                                   TiledWorkspace& ws) const {
  const int64_t row_blocks = (batch.query.rows + kProjectionRows - 1) / kProjectionRows;
  const auto rows_of = [&](int64_t block) {
    return std::min(kProjectionRows, batch.query.rows - block * kProjectionRows);
  };
  const auto interruption_of = [&](int64_t block) {
    return BatchInterruption(arena, batch.sequences, batch.cu_q_lens, block * kProjectionRows,
                             rows_of(block));
  };
  Operands concat{ws.concat.bytes(), concat_row_bytes_};
  if (layer_.config.precision == Precision::kInt8) {
    arena.ForEach(row_blocks, [&](int64_t block, int) {
      ConvertRows(ws.concat_operands, block * kProjectionRows, rows_of(block), interruption_of(block));
    });
    concat = ws.concat_operands.view();
  }
  const PanelMatrix& wo = layer_.wo;
  const int64_t wanted_splits = (4 * arena.num_threads() + row_blocks - 1) / row_blocks;
  const int64_t splits = std::min(wo.num_panels(), arena.num_threads() == 1 ? 1 : wanted_splits);
  arena.ForEach(row_blocks * splits, [&](int64_t item, int worker) {
    const int64_t block = item / splits;
    const int64_t first_row = block * kProjectionRows;
    layer_.provider.BeginWork();
    const int64_t first_panel = item % splits * wo.num_panels() / splits;
    const int64_t end_panel = (item % splits + 1) * wo.num_panels() / splits;
    layer_.project_out.Run(rows_of(block), concat.From(first_row), wo, first_panel, end_panel,
                           batch.output.Row(first_row), ws.workers[worker].gemm.bytes(),
                           interruption_of(block), layer_.bo.empty() ? nullptr : layer_.bo.data(),
                           wo.PanelAhead(end_panel % wo.num_panels()));
  });
}

template class TiledKernel<float>;
template class TiledKernel<Bf16>;

std::unique_ptr<const AttentionKernel> MakeTiledKernel(const Arithmetic& arithmetic,
                                                       const AttentionConfig& config,
                                                       const AttentionParameters& parameters) {
  AttentionConfig computed = config;
  computed.precision = arithmetic.precision;
  if (arithmetic.operands == Precision::kF32) {
    return std::make_unique<TiledKernel<float>>(arithmetic, computed, parameters);
  }
  return std::make_unique<TiledKernel<Bf16>>(arithmetic, computed, parameters);
}

}  // namespace headlight
