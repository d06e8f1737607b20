// SPDX-License-Identifier: Apache-2.0
#include "server/batch/batch_executor.h"

#include <algorithm>
#include <cstddef>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/attention/batch.h"
#include "core/base/status_macros.h"
#include "core/model/pooling.h"
#include "server/batch/copy_list.h"

namespace headlight {
namespace {

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

// Everything of one batch. Its parts point at each other, so it stays where it is made.
class PackedBatch {
 public:
  PackedBatch(std::span<const AttendTask> tasks, BufferPool& pool)
      : tasks_(tasks),
        model_(tasks.front().model->model.config()),
        config_(model_.block.attention),
        pool_(pool),
        buffers_(tasks.size()) {}
  PackedBatch(const PackedBatch&) = delete;
  PackedBatch& operator=(const PackedBatch&) = delete;

  absl::Status Pack(ComputeArena& arena) {
    for (const AttendTask& task : tasks_) {
      num_sequences_ += task.num_sequences();
      q_tokens_ += task.q_tokens;
      kv_tokens_ += task.kv_tokens;
    }
    CopyList copies;
    HEADLIGHT_RETURN_IF_ERROR(PlanInputs(copies));
    HEADLIGHT_RETURN_IF_ERROR(PlanMasks(copies));
    HEADLIGHT_RETURN_IF_ERROR(AllocateResults());
    copies.Run(arena);
    AddSequences();
    return absl::OkStatus();
  }

  ModelBatch View() const {
    ModelBatch model_batch;
    AttentionBatch& batch = model_batch.attention;
    if (query_ != nullptr) {
      batch.query = MatrixOf(query_, q_tokens_, config_.embed_dim);
      batch.key = key_ == nullptr ? batch.query : MatrixOf(key_, kv_tokens_, config_.kdim);
      batch.value = value_ == nullptr ? batch.key : MatrixOf(value_, kv_tokens_, config_.vdim);
    }
    model_batch.token_ids = token_ids_;
    model_batch.token_types = token_types_;
    model_batch.weights_layer = weights_layer_;
    batch.cu_q_lens = cu_q_lens_;
    batch.cu_kv_lens = cu_kv_lens_;
    batch.sequences = sequences_;
    batch.output = {output_->floats(), q_tokens_, config_.embed_dim, config_.embed_dim};
    return model_batch;
  }

  // What each task gets, in the type that it asks for. Once, after the computation.
  absl::StatusOr<std::vector<AttendResult>> TakeResults(ComputeArena& arena) {
    Pool(arena);
    NarrowingList narrowing;
    std::vector<AttendResult> results(tasks_.size());
    int64_t first_row = 0;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const AttendTask& task = tasks_[i];
      TaskBuffers& buffers = buffers_[i];
      AttendResult& result = results[i];
      const auto take = [&](const std::shared_ptr<Buffer>& from, int64_t first, int64_t count,
                            std::shared_ptr<const void>& to) {
        return TakeNumbers(from, first, count, task.output_dtype, narrowing, to);
      };
      const int64_t first = buffers.pooled == nullptr ? first_row * config_.embed_dim : 0;
      HEADLIGHT_RETURN_IF_ERROR(take(buffers.pooled == nullptr ? output_ : buffers.pooled, first,
                                     task.output_rows() * config_.embed_dim, result.output));
      HEADLIGHT_RETURN_IF_ERROR(take(buffers.weights, 0, task.weights.num_weights, result.weights));
      HEADLIGHT_RETURN_IF_ERROR(
          take(buffers.received_mass, 0, task.weights.num_received, result.received_mass));
      if (buffers.keys != nullptr) result.weights_keys = {buffers.keys, KeysOf(*buffers.keys)};
      result.batch_requests = static_cast<int64_t>(tasks_.size());
      result.batch_sequences = num_sequences_;
      result.batch_tokens = q_tokens_;
      first_row += task.q_tokens;
    }
    narrowing.Run(arena);
    return results;
  }

 private:
  // A sequence of the batch and where its vector goes.
  struct PooledSequence {
    int64_t sequence;
    Pooling pooling;
    float* to;
  };

  // Of one task; null where it needs none.
  struct TaskBuffers {
    std::shared_ptr<Buffer> mask;  // unless it is read where it is
    std::shared_ptr<Buffer> pooled;
    std::shared_ptr<Buffer> weights;
    std::shared_ptr<Buffer> keys;
    std::shared_ptr<Buffer> received_mass;
  };

  static int32_t* KeysOf(const Buffer& buffer) {
    return static_cast<int32_t*>(static_cast<void*>(buffer.floats()));
  }

  static MatrixView MatrixOf(const std::shared_ptr<Buffer>& buffer, int64_t rows, int64_t cols) {
    return {buffer->floats(), rows, cols, cols};
  }

  absl::Status Acquire(int64_t size_bytes, std::shared_ptr<Buffer>& buffer) {
    buffer = pool_.Acquire(size_bytes);
    return buffer == nullptr ? OutOfMemory(size_bytes) : absl::OkStatus();
  }

  absl::Status AcquireNumbers(int64_t count, std::shared_ptr<Buffer>& buffer) {
    static_assert(SizeOf(DType::kF32) == SizeOf(DType::kI32));
    return count == 0 ? absl::OkStatus() : Acquire(count * SizeOf(DType::kF32), buffer);
  }

  // Hands out `count` numbers of `from` beginning with `first`: where they are if they stay f32, else
  // narrowed in memory of their own.
  absl::Status TakeNumbers(const std::shared_ptr<Buffer>& from, int64_t first, int64_t count, DType dtype,
                           NarrowingList& narrowing, std::shared_ptr<const void>& to) {
    if (count == 0) return absl::OkStatus();
    if (dtype == DType::kF32) {
      to = {from, from->floats() + first};
      return absl::OkStatus();
    }
    std::shared_ptr<Buffer> narrowed;
    HEADLIGHT_RETURN_IF_ERROR(Acquire(count * SizeOf(dtype), narrowed));
    narrowing.Add(from->floats() + first, count, dtype, narrowed->bytes());
    to = {narrowed, narrowed->bytes()};
    return absl::OkStatus();
  }

  // The tokens of all tasks in a row; types of tasks without them are 0.
  void GatherTokens() {
    token_ids_.reserve(q_tokens_);
    const bool typed = std::any_of(tasks_.begin(), tasks_.end(),
                                   [](const AttendTask& task) { return !task.token_types.empty(); });
    if (typed) token_types_.reserve(q_tokens_);
    for (const AttendTask& task : tasks_) {
      token_ids_.insert(token_ids_.end(), task.token_ids.begin(), task.token_ids.end());
      if (!typed) continue;
      token_types_.insert(token_types_.end(), task.token_types.begin(), task.token_types.end());
      token_types_.resize(token_ids_.size(), 0);
    }
  }

  absl::Status PlanInputs(CopyList& copies) {
    const InputKind kind = tasks_.front().kind;
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
    for (const AttendTask& task : tasks_) {
      to_query = AddRows(task.query, task.q_lens, task.q_tokens, config_.embed_dim, to_query, copies);
      if (key_ != nullptr) {
        to_key = AddRows(task.key, task.kv_lens, task.kv_tokens, config_.kdim, to_key, copies);
      }
      if (value_ != nullptr) {
        to_value = AddRows(task.value, task.kv_lens, task.kv_tokens, config_.vdim, to_value, copies);
      }
    }
    return absl::OkStatus();
  }

  // A mask in one piece is read in place, unless its numbers must be widened.
  absl::Status PlanMasks(CopyList& copies) {
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const ExplicitMask& mask = tasks_[i].mask;
      const int64_t size = SizeOf(mask.dtype);
      if (mask.bytes.contiguous() && size == PackedSizeOf(mask.dtype)) continue;
      const int64_t count = mask.bytes.size_bytes() / size;
      HEADLIGHT_RETURN_IF_ERROR(Acquire(count * PackedSizeOf(mask.dtype), buffers_[i].mask));
      copies.Add(mask.bytes, mask.dtype, 0, count, buffers_[i].mask->bytes());
    }
    return absl::OkStatus();
  }

  // Whether some sequence is shorter than the weights have room for. Kernels write what belongs to a
  // sequence's own queries and keys, and nothing else.
  bool IsPadded(const AttendTask& task) const {
    const int64_t kv_len = task.weights.kv_len - config_.num_appended_keys();
    for (int64_t i = 0; i < task.num_sequences(); ++i) {
      if (NumQueries(task, i) != task.weights.num_queries || task.kv_lens[i] != kv_len) return true;
    }
    return false;
  }

  // Queries that `sequence` reports weights of.
  static int64_t NumQueries(const AttendTask& task, int64_t sequence) {
    WeightsSink range;
    range.query_begin = task.weights.query_begin;
    range.query_end = task.weights.query_end;
    const int64_t q_len = task.q_lens[sequence];
    return range.QueryEnd(q_len) - range.QueryBegin(q_len);
  }

  // One vector for each sequence of the tasks that ask for it, in their `pooled`.
  void Pool(ComputeArena& arena) const {
    std::vector<PooledSequence> pooled;
    int64_t sequence = 0;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      for (int64_t place = 0; place < tasks_[i].num_sequences(); ++place, ++sequence) {
        if (buffers_[i].pooled == nullptr) continue;
        pooled.push_back(
            {sequence, tasks_[i].pooling, buffers_[i].pooled->floats() + place * config_.embed_dim});
      }
    }
    if (pooled.empty()) return;
    arena.ForEach(std::ssize(pooled), [&](int64_t item, int) {
      const auto& [from, pooling, to] = pooled[item];
      const int64_t width = config_.embed_dim;
      const int64_t first = cu_q_lens_[from];
      const int64_t cu_lens[] = {0, cu_q_lens_[from + 1] - first};
      PoolSequences({output_->floats() + first * width, cu_lens[1], width, width}, cu_lens, pooling,
                    model_.normalize_pooled, {to, 1, width, width});
    });
  }

  absl::Status AllocateResults() {
    HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(q_tokens_ * config_.embed_dim, output_));
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const WeightsRequest& request = tasks_[i].weights;
      TaskBuffers& buffers = buffers_[i];
      if (tasks_[i].pooling != Pooling::kNone) {
        HEADLIGHT_RETURN_IF_ERROR(
            AcquireNumbers(tasks_[i].num_sequences() * config_.embed_dim, buffers.pooled));
      }
      if (request.mode == WeightsSink::Mode::kNone) continue;
      HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(request.num_weights, buffers.weights));
      HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(request.num_keys, buffers.keys));
      HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(request.num_received, buffers.received_mass));
      if (!IsPadded(tasks_[i])) continue;
      std::fill_n(buffers.weights->floats(), request.num_weights, 0.0f);
      if (buffers.keys != nullptr) std::fill_n(KeysOf(*buffers.keys), request.num_keys, -1);
      if (buffers.received_mass != nullptr) {
        std::fill_n(buffers.received_mass->floats(), request.num_received, 0.0f);
      }
    }
    return absl::OkStatus();
  }

  void AddSequences() {
    cu_q_lens_.reserve(num_sequences_ + 1);
    cu_kv_lens_.reserve(num_sequences_ + 1);
    sequences_.reserve(num_sequences_);
    weights_layer_.reserve(num_sequences_);
    cu_q_lens_.push_back(0);
    cu_kv_lens_.push_back(0);
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const AttendTask& task = tasks_[i];
      for (int64_t sequence = 0; sequence < task.num_sequences(); ++sequence) {
        cu_q_lens_.push_back(cu_q_lens_.back() + task.q_lens[sequence]);
        cu_kv_lens_.push_back(cu_kv_lens_.back() + task.kv_lens[sequence]);
        SequenceOptions& options = sequences_.emplace_back();
        options.visibility = task.visibility;
        options.mask = MaskOf(i, sequence);
        options.weights = SinkOf(i, sequence);
        options.cancelled = task.cancelled.get();
        weights_layer_.push_back(task.weights.layer);
      }
    }
  }

  MaskView MaskOf(size_t task_index, int64_t sequence) const {
    const ExplicitMask& mask = tasks_[task_index].mask;
    if (mask.bytes.empty()) return {};
    const std::shared_ptr<Buffer>& copy = buffers_[task_index].mask;
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

  WeightsSink SinkOf(size_t task_index, int64_t sequence) const {
    const AttendTask& task = tasks_[task_index];
    const WeightsRequest& request = task.weights;
    WeightsSink sink;
    // A sequence that ends before the queries asked for has nothing to report.
    if (request.mode == WeightsSink::Mode::kNone || NumQueries(task, sequence) == 0) return sink;
    sink.mode = request.mode;
    sink.heads = request.heads;
    sink.query_begin = request.query_begin;
    sink.query_end = request.query_end;
    sink.top_k = request.top_k;
    const TaskBuffers& buffers = buffers_[task_index];
    if (request.mode == WeightsSink::Mode::kSummary) {
      sink.head_stride = kNumHeadStatistics;
      sink.received_stride = request.kv_len;
      sink.received_mass =
          buffers.received_mass->floats() + sequence * request.num_maps * sink.received_stride;
    } else {
      sink.query_stride = request.mode == WeightsSink::Mode::kTopK ? request.top_k : request.kv_len;
      sink.head_stride = request.num_queries * sink.query_stride;
    }
    const int64_t first = sequence * request.num_maps * sink.head_stride;
    sink.data = buffers.weights->floats() + first;
    if (buffers.keys != nullptr) sink.keys = KeysOf(*buffers.keys) + first;
    return sink;
  }

  const std::span<const AttendTask> tasks_;
  const ModelConfig& model_;
  const AttentionConfig& config_;
  BufferPool& pool_;
  int64_t num_sequences_ = 0;
  int64_t q_tokens_ = 0;
  int64_t kv_tokens_ = 0;
  std::shared_ptr<Buffer> query_, key_, value_, output_;  // all but output_ may be null
  std::vector<int32_t> token_ids_, token_types_;          // both may be empty
  std::vector<TaskBuffers> buffers_;                      // one for each task
  std::vector<int64_t> cu_q_lens_, cu_kv_lens_;
  std::vector<SequenceOptions> sequences_;
  std::vector<int64_t> weights_layer_;  // one for each sequence
};

}  // namespace

absl::StatusOr<std::vector<AttendResult>> AttentionExecutor::Execute(std::span<const AttendTask> tasks) {
  try {
    const Model& model = tasks.front().model->model;
    PackedBatch batch(tasks, pool_);
    HEADLIGHT_RETURN_IF_ERROR(batch.Pack(arena_));
    const absl::Status computed = model.Forward(batch.View(), arena_, WorkspaceOf(tasks.front().model));
    if (absl::IsInvalidArgument(computed)) {  // tasks are valid by construction, so this is no caller's fault
      return absl::InternalError(absl::StrCat("the batch is malformed: ", std::string(computed.message())));
    }
    HEADLIGHT_RETURN_IF_ERROR(computed);
    return batch.TakeResults(arena_);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("memory is short: the batch's lists do not fit");
  }
}

ModelWorkspace& AttentionExecutor::WorkspaceOf(const std::shared_ptr<const LoadedModel>& model) {
  std::erase_if(workspaces_, [](const auto& entry) { return entry.first.expired(); });
  for (const auto& [owner, workspace] : workspaces_) {
    if (owner.lock() == model) return *workspace;
  }
  return *workspaces_.emplace_back(model, model->model.NewWorkspace(arena_)).second;
}

}  // namespace headlight
