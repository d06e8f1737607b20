// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/tiled_kernel.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/attention/interruption.h"
#include "core/attention/maps/map_writer.h"
#include "core/attention/tiled/fused_scores.h"

namespace headlight {

namespace {

constexpr double kLog2E = 1.4426950408889634;

template <typename T>
constexpr Precision kOperands = sizeof(T) == 4 ? Precision::kF32 : Precision::kBf16;

template <typename T>
T* As(const Buffer& buffer) {
  return static_cast<T*>(static_cast<void*>(buffer.bytes()));
}

std::vector<PanelMatrix> PackHeads(Precision precision, const std::vector<float>& matrix, int64_t rows,
                                   int64_t num_heads, int64_t head_dim, int64_t padded_head_dim,
                                   PanelStorage& storage) {
  std::vector<PanelMatrix> heads;
  heads.reserve(num_heads);
  for (int64_t head = 0; head < num_heads; ++head) {
    const MatrixView columns = {matrix.data() + head * head_dim, rows, head_dim, num_heads * head_dim};
    heads.emplace_back(precision, columns, padded_head_dim, storage);
  }
  return heads;
}

// Scores are in units of log2, and a head's weights and bias of the queries bring the factor for it. A
// softcap takes its units back from the tanh.
std::vector<float> ScaledForScores(std::vector<float> weights, const AttentionConfig& config) {
  const auto scale = static_cast<float>(config.logit_softcap == 0.0 ? *config.scale * kLog2E
                                                                    : *config.scale / config.logit_softcap);
  for (float& weight : weights) weight *= scale;
  return weights;
}

// [num_heads, head_dim] as [num_heads, padded head_dim]; an empty one stays empty.
std::vector<float> PadHeads(const std::vector<float>& rows, int64_t num_heads, int64_t head_dim,
                            int64_t padded_head_dim) {
  if (rows.empty()) return {};
  std::vector<float> out(num_heads * padded_head_dim, 0.0f);
  for (int64_t head = 0; head < num_heads; ++head) {
    std::copy_n(rows.data() + head * head_dim, head_dim, out.data() + head * padded_head_dim);
  }
  return out;
}

// Of all panels of a layer.
int64_t WeightBytes(const AttentionConfig& config, int64_t padded_head_dim) {
  const auto bytes = [&](int64_t rows, int64_t cols) {
    return PanelMatrix::StorageBytes(config.precision, rows, cols);
  };
  return config.num_heads * bytes(config.embed_dim, padded_head_dim) +
         config.num_kv_heads * (bytes(config.kdim, padded_head_dim) + bytes(config.vdim, padded_head_dim)) +
         bytes(config.q_width(), config.embed_dim);
}

// Calls body(first of the rows, rows, sequence, first row inside the sequence) for each sequence's part of
// the rows [first_row, first_row + rows) of a batch.
template <typename Body>
void ForEachPart(std::span<const int64_t> cu_lens, int64_t first_row, int64_t rows, const Body& body) {
  int64_t sequence = std::upper_bound(cu_lens.begin(), cu_lens.end(), first_row) - cu_lens.begin() - 1;
  for (int64_t row = first_row; row < first_row + rows; ++sequence) {
    const int64_t end = std::min(first_row + rows, cu_lens[sequence + 1]);
    body(row - first_row, end - row, sequence, row - cu_lens[sequence]);
    row = end;
  }
}

// Converts rows of `buffer`, a few at a time, for as long as it may go on.
void ConvertRows(const OperandBuffer& buffer, int64_t first_row, int64_t rows,
                 const Interruption& interruption) {
  constexpr int64_t kRowsAtOnce = 32;
  for (int64_t done = 0; done < rows && interruption.MayGoOn(); done += kRowsAtOnce) {
    buffer.Convert(first_row + done, std::min(kRowsAtOnce, rows - done));
  }
}

// Asks for `size_bytes` in L2. Products read rows of activations in an order that the hardware does not
// foresee.
void Prefetch(const std::byte* begin, int64_t size_bytes) {
  for (int64_t at = 0; at < size_bytes; at += kCacheLineBytes) __builtin_prefetch(begin + at, 0, 2);
}

// Element `row` of column `key` of a panel of keys `width` wide, and of a row of values, as the products read
// them.
int64_t KeyPlace(float, int64_t row, int64_t key, int64_t width) { return row * width + key; }
int64_t KeyPlace(Bf16, int64_t row, int64_t key, int64_t width) {
  return (row / 2 * width + key) * 2 + row % 2;
}
int64_t ValuePlace(float, int64_t key, int64_t col, int64_t width) { return key * width + col; }
int64_t ValuePlace(Bf16, int64_t key, int64_t col, int64_t width) {
  return KeyPlace(Bf16{}, key, col, width);
}

void Set(float value, float& out) { out = value; }
void Set(float value, Bf16& out) { out = ToBf16(value); }

}  // namespace

template <typename T>
TiledKernel<T>::TiledKernel(const TiledKernelKind& kind, const AttentionConfig& config,
                            const AttentionParameters& weights)
    : kind_(kind),
      config_(config),
      padded_head_dim_(RoundUp(config.head_dim, kGranule<T>)),
      storage_(WeightBytes(config, padded_head_dim_)),
      wq_(PackHeads(config.precision, ScaledForScores(weights.wq, config), config.embed_dim, config.num_heads,
                    config.head_dim, padded_head_dim_, storage_)),
      wk_(PackHeads(config.precision, weights.wk, config.kdim, config.num_kv_heads, config.head_dim,
                    padded_head_dim_, storage_)),
      wv_(PackHeads(config.precision, weights.wv, config.vdim, config.num_kv_heads, config.head_dim,
                    padded_head_dim_, storage_)),
      wo_(config.precision, {weights.wo.data(), config.q_width(), config.embed_dim, config.embed_dim},
          config.embed_dim, storage_),
      bq_(PadHeads(ScaledForScores(weights.bq, config), config.num_heads, config.head_dim, padded_head_dim_)),
      bk_(PadHeads(weights.bk, config.num_kv_heads, config.head_dim, padded_head_dim_)),
      bv_(PadHeads(weights.bv, config.num_kv_heads, config.head_dim, padded_head_dim_)),
      bo_(weights.bo),
      project_q_(kind.provider, config.precision, config.embed_dim, padded_head_dim_, padded_head_dim_,
                 !weights.bq.empty()),
      project_k_(kind.provider, config.precision, config.kdim, padded_head_dim_, padded_head_dim_,
                 !weights.bk.empty()),
      project_v_(kind.provider, config.precision, config.vdim, padded_head_dim_, padded_head_dim_,
                 !weights.bv.empty()),
      project_out_(kind.provider, config.precision, config.q_width(), config.embed_dim, config.embed_dim,
                   !weights.bo.empty()) {
  const auto append = [&](const std::vector<float>& k, const std::vector<float>& v) {
    for (const auto& [from, to] : {std::pair(&k, &appended_k_), std::pair(&v, &appended_v_)}) {
      const std::vector<float> padded =
          PadHeads(*from, config.num_kv_heads, config.head_dim, padded_head_dim_);
      to->insert(to->end(), padded.begin(), padded.end());
    }
  };
  if (config.add_bias_kv) append(weights.bias_k, weights.bias_v);
  if (config.add_zero_attn) {
    appended_k_.resize(appended_k_.size() + config.num_kv_heads * padded_head_dim_, 0.0f);
    appended_v_.resize(appended_k_.size(), 0.0f);
  }

  for (int64_t keys = kGranule<T>; keys <= kPanelCols; keys += kGranule<T>) {
    score_keys_.push_back(kind.provider.Make({.operands = kOperands<T>,
                                              .n = keys,
                                              .k = padded_head_dim_,
                                              .lda = padded_head_dim_,
                                              .ldb = keys,
                                              .ldc = kScoreStride}));
  }
  for (int64_t depth : {512, 256, 128, 64, 48, 32, 16}) {
    if (depth % kGranule<T> != 0) continue;
    add_values_.push_back({depth, kind.provider.Make({.operands = kOperands<T>,
                                                      .n = padded_head_dim_,
                                                      .k = depth,
                                                      .lda = kScoreStride,
                                                      .ldb = padded_head_dim_,
                                                      .ldc = padded_head_dim_,
                                                      .accumulate = true})});
  }
  gemm_scratch_bytes_ = MaxScratchBytes();
  concat_row_bytes_ = Layer().ConcatRowBytes();
}

template <typename T>
int64_t TiledKernel<T>::MaxScratchBytes() const {
  int64_t bytes = std::max({project_q_.scratch_bytes(), project_k_.scratch_bytes(),
                            project_v_.scratch_bytes(), project_out_.scratch_bytes()});
  for (const auto& gemm : score_keys_) bytes = std::max(bytes, gemm->scratch_bytes());
  for (const auto& [depth, gemm] : add_values_) bytes = std::max(bytes, gemm->scratch_bytes());
  return bytes;
}

template <typename T>
TiledLayer TiledKernel<T>::Layer() const {
  return {.config = config_,
          .padded_head_dim = padded_head_dim_,
          .element_bytes = sizeof(T),
          .key_granule = kGranule<T>,
          .gemm_scratch_bytes = gemm_scratch_bytes_};
}

template <typename T>
int64_t TiledKernel<T>::WorkspaceBytes(const ForwardShape& shape, int num_threads) const {
  return TiledWorkspaceBytes(Layer(), shape, num_threads);
}

template <typename T>
std::unique_ptr<Workspace> TiledKernel<T>::NewWorkspace(const ComputeArena& arena) const {
  return std::make_unique<TiledWorkspace>(arena.num_threads());
}

template <typename T>
absl::Status TiledKernel<T>::Run(const AttentionBatch& batch, ComputeArena& arena,
                                 Workspace& workspace) const {
  auto& ws = static_cast<TiledWorkspace&>(workspace);
  if (!AnyoneWaits(batch.sequences)) return absl::OkStatus();
  ws.arena = &arena;
  ws.plan.Build(batch, config_, kGranule<T>, arena.num_threads());
  if (!ws.Reserve(Layer(), batch)) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory to attend over ", batch.query.rows,
                                                     " query tokens and ", batch.key.rows, " key tokens"));
  }
  ConvertInputs(batch, arena, ws);
  arena.ForEach(static_cast<int64_t>(ws.plan.items.size()),
                [&](int64_t i, int worker) { RunItem(batch, ws.plan.items[i], arena, ws, worker); });
  ProjectOutput(batch, arena, ws);
  return absl::OkStatus();
}

template <typename T>
void TiledKernel<T>::ConvertInputs(const AttentionBatch& batch, ComputeArena& arena,
                                   TiledWorkspace& ws) const {
  const auto convert = [&](const OperandBuffer& buffer, int64_t rows, std::span<const int64_t> cu_lens) {
    if (config_.precision != Precision::kF32) {
      arena.ForEach((rows + kProjectionRows - 1) / kProjectionRows, [&](int64_t block, int) {
        const int64_t first_row = block * kProjectionRows;
        const int64_t block_rows = std::min(kProjectionRows, rows - first_row);
        ConvertRows(buffer, first_row, block_rows, {arena, batch.sequences, cu_lens, first_row, block_rows});
      });
    }
    return buffer.view();
  };
  // Columns of padding in the heads' outputs meet weights of zero, and 0 * garbage could be NaN.
  const int64_t concat_bytes = config_.num_heads * config_.head_dim * OperandBytes(config_.precision);
  if (config_.precision == Precision::kBf16 && concat_bytes < concat_row_bytes_) {
    for (int64_t row = 0; row < batch.query.rows; ++row) {
      std::byte* const end = ws.concat.bytes() + (row + 1) * concat_row_bytes_;
      std::fill(end - (concat_row_bytes_ - concat_bytes), end, std::byte{0});
    }
  }
  ws.query = convert(ws.query_operands, batch.query.rows, batch.cu_q_lens);
  ws.key = batch.key.data == batch.query.data ? ws.query
                                              : convert(ws.key_operands, batch.key.rows, batch.cu_kv_lens);
  ws.value = batch.value.data == batch.key.data
                 ? ws.key
                 : convert(ws.value_operands, batch.value.rows, batch.cu_kv_lens);
}

template <typename T>
void TiledKernel<T>::RunItem(const AttentionBatch& batch, const WorkItem& item, ComputeArena& arena,
                             TiledWorkspace& ws, int worker) const {
  kind_.provider.BeginWork();
  const SequenceGroup& group = ws.plan.groups[item.group];
  WorkerScratch& own = ws.workers[worker];
  const PackedKeys packed{As<T>(own.packed_keys), As<T>(own.packed_values)};
  auto* summaries = As<SummarySums>(own.summaries);
  const int64_t num_sequences = group.end_sequence - group.first_sequence;
  const int64_t group_heads = config_.heads_per_kv_head();
  const std::span<const SequenceOptions> sequences =
      batch.sequences.subspan(group.first_sequence, num_sequences);
  // The chunks of an item go to one thread, or to all of them when there are too few items.
  const auto for_each_chunk = [&](int64_t first, int64_t end, const auto& body) {
    if (item.split && end - first > 1) {
      arena.ForEach(end - first, [&](int64_t i, int w) {
        kind_.provider.BeginWork();
        body(first + i, ws.workers[w]);
      });
    } else {
      for (int64_t i = first; i < end && AnyoneWaits(sequences); ++i) body(i, own);
    }
  };
  // Calls body(head, sequence, its sums) for what asks for a summary.
  const auto for_each_summary = [&](int64_t first_head, const auto& body) {
    for (int64_t h = 0; h < group_heads; ++h) {
      for (int64_t s = 0; s < num_sequences; ++s) {
        const WeightsSink& sink = batch.sequences[group.first_sequence + s].weights;
        if (sink.mode != WeightsSink::Mode::kSummary) continue;
        const int64_t place = sink.HeadPlace(first_head + h);
        if (place >= 0) body(sink, place, group.first_sequence + s, summaries[h * num_sequences + s]);
      }
    }
  };
  for (int64_t kv_head = item.first_kv_head; kv_head < item.end_kv_head && AnyoneWaits(sequences);
       ++kv_head) {
    const int64_t first_head = kv_head * group_heads;
    for_each_summary(first_head, [&](const WeightsSink& sink, int64_t place, int64_t s, SummarySums& sums) {
      sums = {};
      std::fill_n(sink.received_mass + place * sink.received_stride,
                  batch.kv_len(s) + config_.num_appended_keys(), 0.0f);
    });
    const int64_t first_query = batch.cu_q_lens[group.first_sequence];
    const int64_t num_queries = batch.cu_q_lens[group.end_sequence] - first_query;
    const auto queries_at = [&](int64_t h, int64_t row) {
      return As<T>(own.all_queries) + (h * num_queries + row - first_query) * padded_head_dim_;
    };
    for_each_chunk(group.first_key_chunk, group.end_key_chunk, [&](int64_t i, WorkerScratch& scratch) {
      const KeyChunk& chunk = ws.plan.key_chunks[i];
      if (!ProjectKeys(batch, chunk, kv_head, ws, scratch, packed)) return;
      for (int64_t h = 0; h < group_heads && ws.queries_with_keys; ++h) {
        if (!ProjectQueries(batch, chunk.first_row, chunk.rows, first_head + h, ws, scratch,
                            queries_at(h, chunk.first_row))) {
          return;
        }
      }
    });
    for_each_chunk(group.first_query_chunk, group.end_query_chunk, [&](int64_t i, WorkerScratch& scratch) {
      const QueryChunk& chunk = ws.plan.query_chunks[i];
      for (int64_t h = 0; h < group_heads; ++h) {
        T* queries = queries_at(h, chunk.first_row);
        if (!ws.queries_with_keys) {
          queries = As<T>(scratch.queries);
          if (!ProjectQueries(batch, chunk.first_row, chunk.rows, first_head + h, ws, scratch, queries))
            return;
        }
        // Indexed by the sequence of the batch.
        SummarySums* const of_head = summaries + h * num_sequences - group.first_sequence;
        AttendChunk(batch, chunk, first_head + h, queries, ws, scratch, of_head, packed);
      }
    });
    for_each_summary(first_head, [&](const WeightsSink& sink, int64_t place, int64_t, SummarySums& sums) {
      FinishSummary(sums, sink.data + place * sink.head_stride);
    });
  }
}

template <typename T>
bool TiledKernel<T>::ProjectKeys(const AttentionBatch& batch, const KeyChunk& chunk, int64_t kv_head,
                                 const TiledWorkspace& ws, WorkerScratch& scratch,
                                 const PackedKeys& packed) const {
  const Interruption interruption(*ws.arena, batch.sequences, batch.cu_kv_lens, chunk.first_row, chunk.rows);
  float* const projected = scratch.projected.floats();
  const Operands keys = ws.key.From(chunk.first_row);
  if constexpr (sizeof(T) == 2) Prefetch(keys.rows, chunk.rows * keys.row_bytes);
  if (!project_k_.Run(chunk.rows, keys, wk_[kv_head], projected, scratch.gemm.bytes(), interruption,
                      OfHead(bk_, kv_head), wv_[kv_head].PanelAhead(0))) {
    return false;
  }
  ForEachPart(batch.cu_kv_lens, chunk.first_row, chunk.rows,
              [&](int64_t row, int64_t rows, int64_t sequence, int64_t first_key) {
                float* const part = projected + row * padded_head_dim_;
                T* const finished = kSameType ? reinterpret_cast<T*>(part) : As<T>(scratch.finished);
                if (config_.rope || !kSameType) {
                  FinishRows(Padded(part, rows), config_.rope ? ws.rope.From(first_key) : Rotation{},
                             Padded(finished, rows));
                }
                PackKeys(kv_head, first_key, rows, batch.kv_len(sequence), finished,
                         packed.keys + ws.plan.packed_key_row[sequence] * padded_head_dim_);
              });

  // Values go to their places at once where those of the chunk follow each other.
  bool in_place = kSameType;
  int64_t first_place = -1;
  ForEachPart(batch.cu_kv_lens, chunk.first_row, chunk.rows,
              [&](int64_t row, int64_t, int64_t sequence, int64_t first_key) {
                const int64_t place = ws.plan.packed_key_row[sequence] + first_key;
                if (row == 0) first_place = place;
                in_place = in_place && place == first_place + row;
              });
  float* const values =
      in_place ? reinterpret_cast<float*>(packed.values + first_place * padded_head_dim_) : projected;
  if (!project_v_.Run(chunk.rows, ws.value.From(chunk.first_row), wv_[kv_head], values, scratch.gemm.bytes(),
                      interruption, OfHead(bv_, kv_head),
                      wq_[kv_head * config_.heads_per_kv_head()].PanelAhead(0))) {
    return false;
  }
  ForEachPart(batch.cu_kv_lens, chunk.first_row, chunk.rows,
              [&](int64_t row, int64_t rows, int64_t sequence, int64_t first_key) {
                PackValues(kv_head, first_key, rows, batch.kv_len(sequence),
                           Padded(values + row * padded_head_dim_, rows), scratch,
                           packed.values + ws.plan.packed_key_row[sequence] * padded_head_dim_);
              });
  return true;
}

// Keys [first_key, first_key + num_keys) of a sequence into its panels, and behind the last one the appended
// keys. first_key is a multiple of kPanelCols.
template <typename T>
void TiledKernel<T>::PackKeys(int64_t kv_head, int64_t first_key, int64_t num_keys, int64_t kv_len,
                              const T* rows, T* keys) const {
  const int64_t total = kv_len + config_.num_appended_keys();
  const int64_t padded_total = RoundUp(total, kGranule<T>);
  const int64_t words = padded_head_dim_ * int64_t{sizeof(T)} / int64_t{sizeof(float)};
  for (int64_t done = 0; done < num_keys; done += kPanelCols) {
    const int64_t key = first_key + done;
    TransposeWords(rows + done * padded_head_dim_, std::min(kPanelCols, num_keys - done), words, words,
                   keys + key * padded_head_dim_, std::min(kPanelCols, padded_total - key));
  }
  if (first_key + num_keys < kv_len) return;
  for (int64_t key = kv_len; key < total; ++key) {
    const int64_t panel = key / kPanelCols * kPanelCols;
    const int64_t width = std::min(kPanelCols, padded_total - panel);
    T* const out = keys + panel * padded_head_dim_;
    if (key == panel) std::fill_n(out, width * padded_head_dim_, T{});
    const float* from =
        appended_k_.data() + ((key - kv_len) * config_.num_kv_heads + kv_head) * padded_head_dim_;
    for (int64_t d = 0; d < padded_head_dim_; ++d) Set(from[d], out[KeyPlace(T{}, d, key - panel, width)]);
  }
}

// The same for values; `rows` may be in place already. Padding meets weights of zero, and 0 * garbage could
// be NaN, so it is zero too.
template <typename T>
void TiledKernel<T>::PackValues(int64_t kv_head, int64_t first_key, int64_t num_keys, int64_t kv_len,
                                MutableMatrixView rows, WorkerScratch& scratch, T* values) const {
  const bool is_end = first_key + num_keys == kv_len;
  const int64_t total = kv_len + config_.num_appended_keys();
  const int64_t end = is_end ? RoundUp(total, kGranule<T>) : first_key + num_keys;
  T* const out = values + first_key * padded_head_dim_;
  T* const finished = kSameType ? out : As<T>(scratch.finished);
  if (static_cast<void*>(rows.data) != out) FinishRows(rows, {}, Padded(finished, num_keys));
  std::fill(finished + num_keys * padded_head_dim_, finished + (end - first_key) * padded_head_dim_, T{});
  if constexpr (sizeof(T) == 2) InterleavePairs(finished, end - first_key, padded_head_dim_, out);
  for (int64_t key = kv_len; is_end && key < total; ++key) {
    const float* from =
        appended_v_.data() + ((key - kv_len) * config_.num_kv_heads + kv_head) * padded_head_dim_;
    for (int64_t d = 0; d < padded_head_dim_; ++d)
      Set(from[d], values[ValuePlace(T{}, key, d, padded_head_dim_)]);
  }
}

template <typename T>
bool TiledKernel<T>::ProjectQueries(const AttentionBatch& batch, int64_t first_row, int64_t num_rows,
                                    int64_t head, const TiledWorkspace& ws, WorkerScratch& scratch,
                                    T* queries) const {
  float* const projected = kSameType ? reinterpret_cast<float*>(queries) : scratch.projected.floats();
  if (!project_q_.Run(num_rows, ws.query.From(first_row), wq_[head], projected, scratch.gemm.bytes(),
                      {*ws.arena, batch.sequences, batch.cu_q_lens, first_row, num_rows}, OfHead(bq_, head),
                      AfterQueries(head))) {
    return false;
  }
  const auto finish = [&](int64_t row, int64_t rows, const Rotation& rotation) {
    FinishRows(Padded(projected + row * padded_head_dim_, rows), rotation,
               Padded(queries + row * padded_head_dim_, rows));
  };
  if (!config_.rope) {
    if (!kSameType) finish(0, num_rows, {});
    return true;
  }
  ForEachPart(batch.cu_q_lens, first_row, num_rows,
              [&](int64_t row, int64_t rows, int64_t sequence, int64_t first_query) {
                const int64_t position = first_query + batch.kv_len(sequence) - batch.q_len(sequence);
                finish(row, rows, ws.rope.From(position));
              });
  return true;
}

// The panel that follows once a head's queries are projected.
template <typename T>
Ahead TiledKernel<T>::AfterQueries(int64_t head) const {
  const int64_t next = head + 1;
  if (next == config_.num_heads) return wo_.PanelAhead(0);
  if (next % config_.heads_per_kv_head() != 0) return wq_[next].PanelAhead(0);
  return wk_[next / config_.heads_per_kv_head()].PanelAhead(0);
}

template <typename T>
void TiledKernel<T>::AttendChunk(const AttentionBatch& batch, const QueryChunk& chunk, int64_t head,
                                 const T* queries, TiledWorkspace& ws, WorkerScratch& scratch,
                                 SummarySums* summaries, const PackedKeys& packed) const {
  const int64_t element_bytes = config_.precision == Precision::kBf16 ? 2 : 4;
  int64_t row = chunk.first_row;
  for (int64_t i = chunk.first_block; i < chunk.end_block; ++i) {
    const QueryBlock& block = ws.plan.query_blocks[i];
    if (!IsCancelled(batch.sequences[block.sequence])) {
      const int64_t first_packed = ws.plan.packed_key_row[block.sequence] * padded_head_dim_;
      AttendBlock(batch, block, head, queries + (row - chunk.first_row) * padded_head_dim_,
                  {packed.keys + first_packed, packed.values + first_packed},
                  {*ws.arena, batch.sequences.subspan(block.sequence, 1)}, scratch,
                  summaries + block.sequence,
                  ws.concat.bytes() + row * concat_row_bytes_ + head * config_.head_dim * element_bytes);
    }
    row += block.rows;
  }
  if (ws.plan.wants_weights) FinishStreams();
}

template <typename T>
ScoreRules TiledKernel<T>::RulesOf(const AttentionBatch& batch, int64_t sequence, int64_t head) const {
  const int64_t kv_len = batch.kv_len(sequence);
  ScoreRules rules;
  rules.visibility = VisibilityOf(config_, batch.sequences[sequence]);
  rules.mask = batch.sequences[sequence].mask;
  rules.softcap = static_cast<float>(config_.logit_softcap * kLog2E);
  if (config_.alibi) rules.alibi_slope = static_cast<float>(AlibiSlope(head, config_.num_heads) * kLog2E);
  rules.head = head;
  rules.q_len = batch.q_len(sequence);
  rules.kv_len = kv_len;
  rules.num_keys = kv_len + config_.num_appended_keys();
  return rules;
}

template <typename T>
void TiledKernel<T>::AttendBlock(const AttentionBatch& batch, const QueryBlock& block, int64_t head,
                                 const T* queries, const PackedKeys& keys, const Interruption& interruption,
                                 WorkerScratch& scratch, SummarySums* summary, std::byte* out) const {
  const ScoreRules rules = RulesOf(batch, block.sequence, head);
  SoftmaxState state{scratch.reference.floats(),
                     scratch.sum.floats(),
                     {scratch.acc.floats(), block.rows, padded_head_dim_, padded_head_dim_}};
  MapWriter<T> writer(batch.sequences[block.sequence].weights,
                          {head, config_.num_heads, rules.q_len, rules.kv_len, rules.num_keys}, block,
                          scratch.tile_factors.floats(), summary);

  if (writer.wants_exponents()) state.exponent_sum = scratch.exponent_sum.floats();

  // The bounds of what a query sees grow with the query, so the first and the last one bound the block.
  const KeyRange first = VisibleKeys(rules.visibility, block.first_query, rules.q_len, rules.kv_len);
  const KeyRange last =
      VisibleKeys(rules.visibility, block.first_query + block.rows - 1, rules.q_len, rules.kv_len);
  const int64_t begin = first.begin / kPanelCols * kPanelCols;
  const int64_t end = rules.num_keys > rules.kv_len ? rules.num_keys : last.end;

  float sums[kQueryBlockRows];
  float inverse_sums[kQueryBlockRows];
  enum class Outcome { kStands, kMustBeExact, kNobodyWaits };
  const auto attend = [&] {
    const int64_t rows = RoundUp(block.rows, kFusedRows);
    std::fill_n(state.reference, rows, -std::numeric_limits<float>::infinity());
    for (float* sum : {state.sum, state.exponent_sum}) {
      if (sum != nullptr) std::fill_n(sum, rows * kLanes, 0.0f);
    }
    std::fill_n(state.acc.data, block.rows * padded_head_dim_, 0.0f);
    if (writer.wanted()) writer.Begin(begin);
    T* probabilities = As<T>(scratch.probabilities);
    for (int64_t key = begin; key < end; key += kKeyTile) {
      const int64_t tile_end = std::min(key + kKeyTile, end);
      if (!interruption.MayGoOn()) return Outcome::kNobodyWaits;
      ScoreTileOfKeys(block, rules, queries, keys.keys, key, tile_end, scratch, probabilities, state);
      if (!interruption.MayGoOn()) return Outcome::kNobodyWaits;  // wide heads make these two long
      AddValues(block.rows, probabilities, keys.values + key * padded_head_dim_, tile_end - key, scratch);
      if (!writer.wanted()) continue;
      writer.AddTile(tile_end - key, state);
      probabilities += kTileElements;
    }
    return FinishSums(state, block.rows, sums, inverse_sums) ? Outcome::kStands : Outcome::kMustBeExact;
  };
  Outcome outcome = attend();
  if (outcome == Outcome::kMustBeExact) {
    state.exact = true;
    outcome = attend();
  }
  if (outcome == Outcome::kNobodyWaits) return;
  if (writer.wanted()) {
    writer.Finish(state, sums, inverse_sums, As<T>(scratch.probabilities), kTileElements, kScoreStride,
                  interruption);
  }
  if (config_.precision == Precision::kBf16) {
    Normalise(state, inverse_sums,
              BasicMatrixView<Bf16>{reinterpret_cast<Bf16*>(out), block.rows, config_.head_dim,
                                    concat_row_bytes_ / int64_t{sizeof(Bf16)}});
  } else {
    Normalise(
        state, inverse_sums,
        MutableMatrixView{reinterpret_cast<float*>(out), block.rows, config_.head_dim, config_.q_width()});
  }
}

// Scores and exponentials of keys [first_key, end_key), at most a tile of them.
template <typename T>
void TiledKernel<T>::ScoreTileOfKeys(const QueryBlock& block, const ScoreRules& rules, const T* queries,
                                     const T* keys, int64_t first_key, int64_t end_key,
                                     WorkerScratch& scratch, T* probabilities,
                                     const SoftmaxState& state) const {
  float* scores = sizeof(T) == 4 ? reinterpret_cast<float*>(probabilities) : scratch.scores.floats();
  const auto by_rules = [&](int64_t from, int64_t to) {
    if (from >= to) return;
    const int64_t offset = from - first_key;
    ScoreKeys(block.rows, queries, keys, from, to, rules.num_keys, scores + offset, scratch);
    SoftmaxTile(ScoreTile<T>{.scores = {scores + offset, block.rows, to - from, kScoreStride},
                             .probabilities = probabilities + offset,
                             .probability_stride = kScoreStride,
                             .first_query = block.first_query,
                             .first_key = from},
                rules, state);
  };
  // Panels of keys that every query of the block sees, with nothing done to their scores.
  int64_t whole_begin = end_key, whole_end = end_key;
  if (kind_.fused_scores && !state.exact && rules.mask.empty() && rules.softcap == 0.0f &&
      rules.alibi_slope == 0.0f) {
    const KeyRange first = VisibleKeys(rules.visibility, block.first_query, rules.q_len, rules.kv_len);
    const KeyRange last =
        VisibleKeys(rules.visibility, block.first_query + block.rows - 1, rules.q_len, rules.kv_len);
    whole_begin = std::clamp(RoundUp(last.begin, kPanelCols), first_key, end_key);
    whole_end = std::max(whole_begin, std::min(first.end / kPanelCols * kPanelCols, end_key));
    if (whole_begin == whole_end) whole_begin = whole_end = end_key;
  }
  by_rules(first_key, whole_begin);
  if (whole_begin < whole_end) {
    ScoreAndExp(FusedScores<T>{.queries = queries,
                               .keys = keys + whole_begin * padded_head_dim_,
                               .rows = block.rows,
                               .head_dim = padded_head_dim_,
                               .num_panels = (whole_end - whole_begin) / kPanelCols,
                               .probabilities = probabilities + (whole_begin - first_key),
                               .probability_stride = kScoreStride,
                               .reference = state.reference,
                               .sum = state.sum,
                               .exponent_sum = state.exponent_sum});
  }
  by_rules(whole_end, end_key);
}

template <typename T>
void TiledKernel<T>::ScoreKeys(int64_t rows, const T* queries, const T* keys, int64_t first_key,
                               int64_t end_key, int64_t num_keys, float* scores,
                               WorkerScratch& scratch) const {
  const int64_t padded_keys = RoundUp(num_keys, kGranule<T>);
  for (int64_t key = first_key; key < end_key; key += kPanelCols) {
    const int64_t width = std::min(kPanelCols, padded_keys - key);
    score_keys_[width / kGranule<T> - 1]->Run(rows, queries, keys + key * padded_head_dim_,
                                              scores + (key - first_key), scratch.gemm.bytes(), nullptr, {});
  }
}

template <typename T>
void TiledKernel<T>::AddValues(int64_t rows, const T* probabilities, const T* values, int64_t num_keys,
                               WorkerScratch& scratch) const {
  int64_t done = 0;
  for (const auto& [depth, gemm] : add_values_) {
    for (; RoundUp(num_keys, kGranule<T>) - done >= depth; done += depth) {
      gemm->Run(rows, probabilities + done, values + done * padded_head_dim_, scratch.acc.floats(),
                scratch.gemm.bytes(), nullptr, {});
    }
  }
}

template <typename T>
void TiledKernel<T>::ProjectOutput(const AttentionBatch& batch, ComputeArena& arena,
                                   TiledWorkspace& ws) const {
  const int64_t row_blocks = (batch.query.rows + kProjectionRows - 1) / kProjectionRows;
  const auto rows_of = [&](int64_t block) {
    return std::min(kProjectionRows, batch.query.rows - block * kProjectionRows);
  };
  Operands concat{ws.concat.bytes(), concat_row_bytes_};
  if (config_.precision == Precision::kInt8) {
    arena.ForEach(row_blocks, [&](int64_t block, int) {
      const int64_t first_row = block * kProjectionRows;
      ConvertRows(ws.concat_operands, first_row, rows_of(block),
                  {arena, batch.sequences, batch.cu_q_lens, first_row, rows_of(block)});
    });
    concat = ws.concat_operands.view();
  }
  const int64_t wanted_splits = (4 * arena.num_threads() + row_blocks - 1) / row_blocks;
  const int64_t splits = std::min(wo_.num_panels(), arena.num_threads() == 1 ? 1 : wanted_splits);
  arena.ForEach(row_blocks * splits, [&](int64_t item, int worker) {
    const int64_t first_row = item / splits * kProjectionRows;
    const int64_t rows = rows_of(item / splits);
    kind_.provider.BeginWork();
    const int64_t first_panel = item % splits * wo_.num_panels() / splits;
    const int64_t end_panel = (item % splits + 1) * wo_.num_panels() / splits;
    project_out_.Run(rows, concat.From(first_row), wo_, first_panel, end_panel, batch.output.Row(first_row),
                     ws.workers[worker].gemm.bytes(),
                     {arena, batch.sequences, batch.cu_q_lens, first_row, rows},
                     bo_.empty() ? nullptr : bo_.data(), wo_.PanelAhead(end_panel % wo_.num_panels()));
  });
}

template class TiledKernel<float>;
template class TiledKernel<Bf16>;

}  // namespace headlight
