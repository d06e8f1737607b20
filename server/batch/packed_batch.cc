// SPDX-License-Identifier: Apache-2.0
#include "server/batch/packed_batch.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "core/attention/config.h"
#include "core/base/status_macros.h"
#include "core/tensor/matrix_view.h"
#include "server/batch/output_work.h"

namespace headlight {
namespace {

// A reply may keep a buffer from others that is so many times its size; what is smaller is copied out. One
// token's reply would else hold on to the output of a whole batch until its reader is done.
constexpr int64_t kMostPinned = 4;

absl::Status OutOfMemory(int64_t size_bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("memory is short: no ", size_bytes, " bytes for the batch"));
}

// Plans the copies of `rows`, whose `tokens` rows in sequences of the lengths `lens` have `width` columns, to
// packed f32 rows at `to`. Returns the end.
std::byte* AddRows(const InputRows& rows, const std::vector<int64_t>& lens, int64_t tokens, int64_t width,
                   std::byte* to, CopyList& copies) {
  const int64_t row_bytes = width * SizeOf(DType::kF32);
  if (rows.padded_len == 0) {
    copies.Add(rows.bytes, rows.dtype, 0, tokens * width, to);
    return to + tokens * row_bytes;
  }
  for (size_t i = 0; i < lens.size(); ++i) {
    const int64_t first_row = static_cast<int64_t>(i) * rows.padded_len;
    copies.Add(rows.bytes, rows.dtype, first_row * width, lens[i] * width, to);
    to += lens[i] * row_bytes;
  }
  return to;
}

int32_t* KeysOf(const Buffer& buffer) { return static_cast<int32_t*>(static_cast<void*>(buffer.floats())); }

MatrixView MatrixOf(const std::shared_ptr<PooledBuffer>& buffer, int64_t rows, int64_t cols) {
  return {buffer->floats(), rows, cols, cols};
}

// Queries that `sequence` reports weights of.
int64_t NumQueries(const BatchInput& input, int64_t sequence) {
  WeightsSink range;
  range.query_begin = input.weights.query_begin;
  range.query_end = input.weights.query_end;
  const int64_t q_len = input.q_lens[sequence];
  return range.QueryEnd(q_len) - range.QueryBegin(q_len);
}

}  // namespace

PackedBatch::PackedBatch(std::span<const BatchInput* const> inputs, BufferPool& pool, Lease& memory)
    : inputs_(inputs),
      config_(inputs.front()->model->model.config().block.attention),
      pool_(pool),
      memory_(memory),
      buffers_(inputs.size()) {}

absl::Status PackedBatch::Pack(ComputeArena& arena) {
  for (const BatchInput* input : inputs_) {
    num_sequences_ += input->num_sequences();
    q_tokens_ += input->q_tokens;
    kv_tokens_ += input->kv_tokens;
  }
  CopyList copies;
  HEADLIGHT_RETURN_IF_ERROR(PlanInputs(copies));
  HEADLIGHT_RETURN_IF_ERROR(PlanMasks(copies));
  HEADLIGHT_RETURN_IF_ERROR(AllocateResults());
  copies.Run(arena);
  AddSequences();
  return absl::OkStatus();
}

ModelBatch PackedBatch::View() const {
  ModelBatch model_batch;
  AttentionBatch& batch = model_batch.attention;
  if (query_ != nullptr) {
    batch.query = MatrixOf(query_, q_tokens_, config_.embed_dim);
    batch.key = key_ == nullptr ? batch.query : MatrixOf(key_, kv_tokens_, config_.kdim);
    batch.value = value_ == nullptr ? batch.key : MatrixOf(value_, kv_tokens_, config_.vdim);
  }
  model_batch.token_ids = token_ids_;
  model_batch.token_types = token_types_;
  model_batch.weights_layers = weights_layers_;
  batch.cu_q_lens = cu_q_lens_;
  batch.cu_kv_lens = cu_kv_lens_;
  batch.sequences = sequences_;
  batch.output = {output_->floats(), q_tokens_, config_.embed_dim, config_.embed_dim};
  return model_batch;
}

absl::StatusOr<std::vector<BatchResult>> PackedBatch::TakeResults(ComputeArena& arena) {
  Pool(arena);
  OutputWork outputs(inputs_.front()->model->model, MatrixOf(output_, q_tokens_, config_.embed_dim),
                     token_ids_, pool_, memory_);
  int64_t next_row = 0;
  for (const BatchInput* input : inputs_) {
    HEADLIGHT_RETURN_IF_ERROR(outputs.Add(*input, next_row));
    next_row += input->q_tokens;
  }
  HEADLIGHT_RETURN_IF_ERROR(outputs.Run(arena));
  NarrowingList narrowing;
  std::vector<BatchResult> results(inputs_.size());
  int64_t first_row = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const BatchInput& input = *inputs_[i];
    RequestBuffers& buffers = buffers_[i];
    BatchResult& result = results[i];
    if (input.cancelled->IsCancelled()) {  // nobody will look at it
      first_row += input.q_tokens;
      continue;
    }
    const auto take = [&](const std::shared_ptr<PooledBuffer>& from, int64_t first, int64_t count,
                          std::shared_ptr<const void>& to) {
      return TakeNumbers(from, first, count, input.output_dtype, narrowing, to);
    };
    const int64_t before = narrowing.bytes();
    const int64_t first = buffers.pooled == nullptr ? first_row * config_.embed_dim : 0;
    HEADLIGHT_RETURN_IF_ERROR(take(buffers.pooled == nullptr ? output_ : buffers.pooled, first,
                                   input.num_outputs(config_.embed_dim), result.output));
    HEADLIGHT_RETURN_IF_ERROR(take(buffers.weights, 0, input.weights.num_weights, result.weights));
    HEADLIGHT_RETURN_IF_ERROR(
        take(buffers.received_mass, 0, input.weights.num_received, result.received_mass));
    if (buffers.keys != nullptr) {
      buffers.keys->Relabel(MemoryKind::kReply);
      result.weights_keys = {buffers.keys, KeysOf(*buffers.keys)};
    }
    result.outputs = outputs.Take(i);
    result.copied_bytes = buffers.copied_bytes + narrowing.bytes() - before;
    result.batch_requests = static_cast<int64_t>(inputs_.size());
    result.batch_sequences = num_sequences_;
    result.batch_tokens = q_tokens_;
    first_row += input.q_tokens;
  }
  narrowing.Run(arena);
  return results;
}

absl::Status PackedBatch::Acquire(int64_t size_bytes, std::shared_ptr<PooledBuffer>& buffer) {
  buffer = pool_.Acquire(size_bytes, memory_);
  return buffer == nullptr ? OutOfMemory(size_bytes) : absl::OkStatus();
}

absl::Status PackedBatch::AcquireNumbers(int64_t count, std::shared_ptr<PooledBuffer>& buffer) {
  static_assert(SizeOf(DType::kF32) == SizeOf(DType::kI32));
  return count == 0 ? absl::OkStatus() : Acquire(count * SizeOf(DType::kF32), buffer);
}

// The tokens of all requests in a row; types of requests without them are 0.
void PackedBatch::GatherTokens() {
  token_ids_.reserve(q_tokens_);
  const bool typed = std::any_of(inputs_.begin(), inputs_.end(),
                                 [](const BatchInput* input) { return !input->token_types.empty(); });
  if (typed) token_types_.reserve(q_tokens_);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const BatchInput* input = inputs_[i];
    buffers_[i].copied_bytes +=
        static_cast<int64_t>((input->token_ids.size() + input->token_types.size()) * sizeof(token_ids_[0]));
    token_ids_.insert(token_ids_.end(), input->token_ids.begin(), input->token_ids.end());
    if (!typed) continue;
    token_types_.insert(token_types_.end(), input->token_types.begin(), input->token_types.end());
    token_types_.resize(token_ids_.size(), 0);
  }
}

absl::Status PackedBatch::PlanInputs(CopyList& copies) {
  const InputKind kind = inputs_.front()->kind;
  if (kind == InputKind::kTokenIds) {
    GatherTokens();
    return absl::OkStatus();
  }
  HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(q_tokens_ * config_.embed_dim, query_));
  if (kind != InputKind::kSelf) HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(kv_tokens_ * config_.kdim, key_));
  if (kind == InputKind::kKeyAndValue)
    HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(kv_tokens_ * config_.vdim, value_));
  std::byte* to_query = query_->bytes();
  std::byte* to_key = key_ == nullptr ? nullptr : key_->bytes();
  std::byte* to_value = value_ == nullptr ? nullptr : value_->bytes();
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const BatchInput* input = inputs_[i];
    const int64_t before = copies.bytes();
    to_query = AddRows(input->query, input->q_lens, input->q_tokens, config_.embed_dim, to_query, copies);
    if (key_ != nullptr) {
      to_key = AddRows(input->key, input->kv_lens, input->kv_tokens, config_.kdim, to_key, copies);
    }
    if (value_ != nullptr) {
      to_value = AddRows(input->value, input->kv_lens, input->kv_tokens, config_.vdim, to_value, copies);
    }
    buffers_[i].copied_bytes += copies.bytes() - before;
  }
  return absl::OkStatus();
}

// A mask in one piece is read in place, unless its numbers must be widened.
absl::Status PackedBatch::PlanMasks(CopyList& copies) {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const ExplicitMask& mask = inputs_[i]->mask;
    const int64_t size = SizeOf(mask.dtype);
    if (mask.bytes.contiguous() && size == PackedSizeOf(mask.dtype)) continue;
    const int64_t count = mask.bytes.size_bytes() / size;
    HEADLIGHT_RETURN_IF_ERROR(Acquire(count * PackedSizeOf(mask.dtype), buffers_[i].mask));
    copies.Add(mask.bytes, mask.dtype, 0, count, buffers_[i].mask->bytes());
    buffers_[i].copied_bytes += count * PackedSizeOf(mask.dtype);
  }
  return absl::OkStatus();
}

absl::Status PackedBatch::AllocateResults() {
  HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(q_tokens_ * config_.embed_dim, output_));
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const WeightsRequest& request = inputs_[i]->weights;
    RequestBuffers& buffers = buffers_[i];
    if (inputs_[i]->pools()) {
      HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(inputs_[i]->num_pooled(), buffers.pooled));
    }
    if (request.mode == WeightsSink::Mode::kNone) continue;
    HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(request.num_weights, buffers.weights));
    HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(request.num_keys, buffers.keys));
    HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(request.num_received, buffers.received_mass));
    if (!IsPadded(*inputs_[i])) continue;
    std::fill_n(buffers.weights->floats(), request.num_weights, 0.0f);
    if (buffers.keys != nullptr) std::fill_n(KeysOf(*buffers.keys), request.num_keys, -1);
    if (buffers.received_mass != nullptr) {
      std::fill_n(buffers.received_mass->floats(), request.num_received, 0.0f);
    }
  }
  return absl::OkStatus();
}

void PackedBatch::AddSequences() {
  cu_q_lens_.reserve(num_sequences_ + 1);
  cu_kv_lens_.reserve(num_sequences_ + 1);
  sequences_.reserve(num_sequences_);
  weights_layers_.reserve(num_sequences_);
  cu_q_lens_.push_back(0);
  cu_kv_lens_.push_back(0);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const BatchInput& input = *inputs_[i];
    for (int64_t sequence = 0; sequence < input.num_sequences(); ++sequence) {
      cu_q_lens_.push_back(cu_q_lens_.back() + input.q_lens[sequence]);
      cu_kv_lens_.push_back(cu_kv_lens_.back() + input.kv_lens[sequence]);
      SequenceOptions& options = sequences_.emplace_back();
      options.visibility = input.visibility;
      options.mask = MaskOf(i, sequence);
      options.weights = SinkOf(i, sequence, weights_layers_.emplace_back());
      options.cancelled = input.cancelled.get();
    }
  }
}

MaskView PackedBatch::MaskOf(size_t index, int64_t sequence) const {
  const ExplicitMask& mask = inputs_[index]->mask;
  if (mask.bytes.empty()) return {};
  const std::shared_ptr<PooledBuffer>& copy = buffers_[index].mask;
  const std::byte* data = copy == nullptr ? mask.bytes.data() : copy->bytes();
  const int64_t head_elements = mask.q_len * mask.kv_len;
  const int64_t first = mask.batch == 1 ? 0 : sequence * mask.num_heads * head_elements;
  MaskView view;
  view.data = data + first * PackedSizeOf(mask.dtype);
  view.dtype = mask.dtype == DType::kBool ? DType::kBool : DType::kF32;
  view.head_stride = mask.num_heads == 1 ? 0 : head_elements;
  view.query_stride = mask.kv_len;
  return view;
}

WeightsSink PackedBatch::SinkOf(size_t index, int64_t sequence, WeightsLayers& layers) const {
  const BatchInput& input = *inputs_[index];
  const WeightsRequest& request = input.weights;
  WeightsSink sink;
  // A sequence that ends before the queries asked for has nothing to report.
  if (request.mode == WeightsSink::Mode::kNone || NumQueries(input, sequence) == 0) return sink;
  sink.mode = request.mode;
  sink.heads = request.heads;
  sink.query_begin = request.query_begin;
  sink.query_end = request.query_end;
  sink.top_k = request.top_k;
  layers.layers = request.layers;
  const RequestBuffers& buffers = buffers_[index];
  const int64_t maps_before = sequence * std::ssize(request.layers) * request.num_maps;
  switch (request.mode) {
    case WeightsSink::Mode::kSummary:
      sink.head_stride = kNumHeadStatistics;
      sink.received_stride = request.kv_len;
      sink.received_mass = buffers.received_mass->floats() + maps_before * sink.received_stride;
      layers.received_stride = request.num_maps * sink.received_stride;
      break;
    case WeightsSink::Mode::kGrid:
      sink.grid_rows = request.grid_rows;
      sink.grid_cols = request.grid_cols;
      sink.query_stride = request.grid_cols;
      sink.head_stride = request.grid_rows * sink.query_stride;
      break;
    default:
      sink.query_stride = request.mode == WeightsSink::Mode::kTopK ? request.top_k : request.kv_len;
      sink.head_stride = request.num_queries * sink.query_stride;
  }
  layers.data_stride = request.num_maps * sink.head_stride;
  const int64_t first = maps_before * sink.head_stride;
  sink.data = buffers.weights->floats() + first;
  if (buffers.keys != nullptr) sink.keys = KeysOf(*buffers.keys) + first;
  return sink.Simplified(input.q_lens[sequence], input.kv_lens[sequence] + config_.num_appended_keys());
}

// Whether some sequence is shorter than the weights have room for. Kernels write what belongs to a
// sequence's own queries and keys, and nothing else.
bool PackedBatch::IsPadded(const BatchInput& input) const {
  const int64_t kv_len = input.weights.kv_len - config_.num_appended_keys();
  for (int64_t i = 0; i < input.num_sequences(); ++i) {
    if (NumQueries(input, i) != input.weights.num_queries || input.kv_lens[i] != kv_len) return true;
  }
  return false;
}

// One vector for each sequence of the requests that ask for it and are not cancelled, in their `pooled`.
void PackedBatch::Pool(ComputeArena& arena) const {
  std::vector<PooledSequence> pooled;
  int64_t sequence = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    for (int64_t place = 0; place < inputs_[i]->num_sequences(); ++place, ++sequence) {
      if (buffers_[i].pooled == nullptr) continue;
      pooled.push_back({sequence, inputs_[i], buffers_[i].pooled->floats() + place * inputs_[i]->pooled_dim});
    }
  }
  if (pooled.empty()) return;
  arena.ForEach(std::ssize(pooled), [&](int64_t item, int) {
    const auto& [from, input, to] = pooled[item];
    if (input->cancelled->IsCancelled()) return;
    const int64_t width = config_.embed_dim;
    const int64_t first = cu_q_lens_[from];
    const int64_t cu_lens[] = {0, cu_q_lens_[from + 1] - first};
    const WhileWanted interruption(arena, *input->cancelled);
    PoolVectors(input->model->model, {input->pooling, input->pools_as_model},
                {output_->floats() + first * width, cu_lens[1], width, width}, cu_lens,
                {to, 1, input->pooled_dim, input->pooled_dim}, interruption);
  });
}

absl::Status PackedBatch::TakeNumbers(const std::shared_ptr<PooledBuffer>& from, int64_t first, int64_t count,
                                      DType dtype, NarrowingList& narrowing,
                                      std::shared_ptr<const void>& to) {
  if (count == 0) return absl::OkStatus();
  const int64_t size_bytes = count * SizeOf(dtype);
  if (dtype == DType::kF32 && size_bytes >= from->size_bytes() / kMostPinned) {
    from->Relabel(MemoryKind::kReply);
    to = {from, from->floats() + first};
    return absl::OkStatus();
  }
  std::shared_ptr<PooledBuffer> own;
  HEADLIGHT_RETURN_IF_ERROR(Acquire(size_bytes, own));
  own->Relabel(MemoryKind::kReply);
  narrowing.Add(from->floats() + first, count, dtype, own->bytes());
  to = {own, own->bytes()};
  return absl::OkStatus();
}

}  // namespace headlight
