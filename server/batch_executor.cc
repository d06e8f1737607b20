// SPDX-License-Identifier: Apache-2.0
#include "server/batch_executor.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/attention/batch.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// Bytes that one thread copies before it takes the next piece: long enough to hide the hand-over, short
// enough to spread a batch over all threads.
constexpr int64_t kCopyPieceBytes = int64_t{1} << 20;

absl::Status OutOfMemory(int64_t size_bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("memory is short: no ", size_bytes, " bytes for the batch"));
}

// A list of copies, done together by all threads of the arena.
class CopyList {
 public:
  void Add(const ByteSegments& from, int64_t offset, int64_t num_bytes, std::byte* to) {
    while (num_bytes > 0) {
      if (piece_bytes_ == 0) pieces_.push_back(copies_.size());
      const int64_t take = std::min(num_bytes, kCopyPieceBytes - piece_bytes_);
      copies_.push_back({&from, offset, take, to});
      piece_bytes_ = (piece_bytes_ + take) % kCopyPieceBytes;
      offset += take;
      to += take;
      num_bytes -= take;
    }
  }

  void Run(ComputeArena& arena) const {
    arena.ForEach(static_cast<int64_t>(pieces_.size()), [this](int64_t piece, int) {
      const bool last = piece + 1 == static_cast<int64_t>(pieces_.size());
      const size_t end = last ? copies_.size() : pieces_[piece + 1];
      for (size_t i = pieces_[piece]; i < end; ++i) {
        const Copy& copy = copies_[i];
        copy.from->CopyTo(copy.offset, copy.num_bytes, copy.to);
      }
    });
  }

 private:
  struct Copy {
    const ByteSegments* from;
    int64_t offset;
    int64_t num_bytes;
    std::byte* to;
  };
  std::vector<Copy> copies_;
  std::vector<size_t> pieces_;  // first copy of each piece
  int64_t piece_bytes_ = 0;     // of the last piece, so far
};

// Plans the copies of `rows`, whose sequences have the lengths `lens`, to packed rows at `to`. Returns the
// end.
std::byte* AddRows(const InputRows& rows, const std::vector<int64_t>& lens, int64_t row_bytes, std::byte* to,
                   CopyList& copies) {
  if (rows.padded_len == 0) {
    copies.Add(rows.bytes, 0, rows.bytes.size_bytes(), to);
    return to + rows.bytes.size_bytes();
  }
  for (size_t i = 0; i < lens.size(); ++i) {
    copies.Add(rows.bytes, static_cast<int64_t>(i) * rows.padded_len * row_bytes, lens[i] * row_bytes, to);
    to += lens[i] * row_bytes;
  }
  return to;
}

// Everything of one batch. Its parts point at each other, so it stays where it is made.
class PackedBatch {
 public:
  PackedBatch(std::span<const AttendTask> tasks, BufferPool& pool)
      : tasks_(tasks), config_(tasks.front().model->attention.config()), pool_(pool) {}
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

  AttentionBatch View() const {
    AttentionBatch batch;
    batch.query = MatrixOf(query_, q_tokens_, config_.embed_dim);
    batch.key = key_ == nullptr ? batch.query : MatrixOf(key_, kv_tokens_, config_.kdim);
    batch.value = value_ == nullptr ? batch.key : MatrixOf(value_, kv_tokens_, config_.vdim);
    batch.cu_q_lens = cu_q_lens_;
    batch.cu_kv_lens = cu_kv_lens_;
    batch.sequences = sequences_;
    batch.output = {output_->floats(), q_tokens_, config_.embed_dim, config_.embed_dim};
    return batch;
  }

  std::vector<AttendResult> Results() const {
    std::vector<AttendResult> results(tasks_.size());
    int64_t first_row = 0;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      AttendResult& result = results[i];
      result.output = {output_, output_->floats() + first_row * config_.embed_dim};
      if (weights_[i] != nullptr) result.weights = {weights_[i], weights_[i]->floats()};
      result.batch_requests = static_cast<int64_t>(tasks_.size());
      result.batch_sequences = num_sequences_;
      result.batch_tokens = q_tokens_;
      first_row += tasks_[i].q_tokens;
    }
    return results;
  }

 private:
  static MatrixView MatrixOf(const std::shared_ptr<Buffer>& buffer, int64_t rows, int64_t cols) {
    return {buffer->floats(), rows, cols, cols};
  }

  absl::Status Acquire(int64_t size_bytes, std::shared_ptr<Buffer>& buffer) {
    buffer = pool_.Acquire(size_bytes);
    return buffer == nullptr ? OutOfMemory(size_bytes) : absl::OkStatus();
  }

  absl::Status PlanInputs(CopyList& copies) {
    const int64_t query_row_bytes = config_.embed_dim * SizeOf(DType::kF32);
    const int64_t key_row_bytes = config_.kdim * SizeOf(DType::kF32);
    const int64_t value_row_bytes = config_.vdim * SizeOf(DType::kF32);
    const InputKind kind = tasks_.front().kind;
    HEADLIGHT_RETURN_IF_ERROR(Acquire(q_tokens_ * query_row_bytes, query_));
    if (kind != InputKind::kSelf) HEADLIGHT_RETURN_IF_ERROR(Acquire(kv_tokens_ * key_row_bytes, key_));
    if (kind == InputKind::kKeyAndValue)
      HEADLIGHT_RETURN_IF_ERROR(Acquire(kv_tokens_ * value_row_bytes, value_));
    std::byte* to_query = query_->bytes();
    std::byte* to_key = key_ == nullptr ? nullptr : key_->bytes();
    std::byte* to_value = value_ == nullptr ? nullptr : value_->bytes();
    for (const AttendTask& task : tasks_) {
      to_query = AddRows(task.query, task.q_lens, query_row_bytes, to_query, copies);
      if (key_ != nullptr) to_key = AddRows(task.key, task.kv_lens, key_row_bytes, to_key, copies);
      if (value_ != nullptr) to_value = AddRows(task.value, task.kv_lens, value_row_bytes, to_value, copies);
    }
    return absl::OkStatus();
  }

  // A mask in one piece is read where it is.
  absl::Status PlanMasks(CopyList& copies) {
    masks_.resize(tasks_.size());
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const ByteSegments& bytes = tasks_[i].mask.bytes;
      if (bytes.contiguous()) continue;
      HEADLIGHT_RETURN_IF_ERROR(Acquire(bytes.size_bytes(), masks_[i]));
      copies.Add(bytes, 0, bytes.size_bytes(), masks_[i]->bytes());
    }
    return absl::OkStatus();
  }

  // Whether some sequence is shorter than the weights have room for.
  static bool IsPadded(const AttendTask& task) {
    const int64_t sequences = task.num_sequences();
    return task.q_tokens != sequences * task.weights.q_len ||
           task.kv_tokens != sequences * task.weights.kv_len;
  }

  absl::Status AllocateResults() {
    HEADLIGHT_RETURN_IF_ERROR(Acquire(q_tokens_ * config_.embed_dim * SizeOf(DType::kF32), output_));
    weights_.resize(tasks_.size());
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const WeightsRequest& request = tasks_[i].weights;
      if (request.mode == WeightsSink::Mode::kNone) continue;
      HEADLIGHT_RETURN_IF_ERROR(Acquire(request.size_bytes, weights_[i]));
      // Kernels write the weights of a sequence's own queries and keys; what lies outside is zero by
      // contract.
      if (IsPadded(tasks_[i])) std::memset(weights_[i]->bytes(), 0, request.size_bytes);
    }
    return absl::OkStatus();
  }

  void AddSequences() {
    cu_q_lens_.reserve(num_sequences_ + 1);
    cu_kv_lens_.reserve(num_sequences_ + 1);
    sequences_.reserve(num_sequences_);
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
      }
    }
  }

  MaskView MaskOf(size_t task_index, int64_t sequence) const {
    const ExplicitMask& mask = tasks_[task_index].mask;
    if (mask.bytes.empty()) return {};
    const std::shared_ptr<Buffer>& copy = masks_[task_index];
    const std::byte* data = copy == nullptr ? mask.bytes.data() : copy->bytes();
    const int64_t head_elements = mask.q_len * mask.kv_len;
    const int64_t first = mask.batch == 1 ? 0 : sequence * mask.num_heads * head_elements;
    MaskView view;
    view.data = data + first * SizeOf(mask.dtype);
    view.dtype = mask.dtype;
    view.head_stride = mask.num_heads == 1 ? 0 : head_elements;
    view.query_stride = mask.kv_len;
    return view;
  }

  WeightsSink SinkOf(size_t task_index, int64_t sequence) const {
    const WeightsRequest& request = tasks_[task_index].weights;
    WeightsSink sink;
    sink.mode = request.mode;
    if (sink.mode == WeightsSink::Mode::kNone) return sink;
    const int64_t heads = sink.mode == WeightsSink::Mode::kFull ? config_.num_heads : 1;
    sink.head_stride = request.q_len * request.kv_len;
    sink.query_stride = request.kv_len;
    sink.data = weights_[task_index]->floats() + sequence * heads * sink.head_stride;
    return sink;
  }

  const std::span<const AttendTask> tasks_;
  const AttentionConfig& config_;
  BufferPool& pool_;
  int64_t num_sequences_ = 0;
  int64_t q_tokens_ = 0;
  int64_t kv_tokens_ = 0;
  std::shared_ptr<Buffer> query_, key_, value_, output_;  // key_ and value_ may be null
  std::vector<std::shared_ptr<Buffer>> masks_;    // one for each task; null where the mask is read in place
  std::vector<std::shared_ptr<Buffer>> weights_;  // one for each task; null where none are asked for
  std::vector<int64_t> cu_q_lens_, cu_kv_lens_;
  std::vector<SequenceOptions> sequences_;
};

}  // namespace

absl::StatusOr<std::vector<AttendResult>> AttentionExecutor::Execute(std::span<const AttendTask> tasks) {
  try {
    const MultiHeadAttention& attention = tasks.front().model->attention;
    PackedBatch batch(tasks, pool_);
    HEADLIGHT_RETURN_IF_ERROR(batch.Pack(arena_));
    const absl::Status computed = attention.Forward(batch.View(), arena_, WorkspaceOf(tasks.front().model));
    if (absl::IsInvalidArgument(computed)) {  // tasks are valid by construction, so this is no caller's fault
      return absl::InternalError(absl::StrCat("the batch is malformed: ", std::string(computed.message())));
    }
    HEADLIGHT_RETURN_IF_ERROR(computed);
    return batch.Results();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("memory is short: the batch's lists do not fit");
  }
}

Workspace& AttentionExecutor::WorkspaceOf(const std::shared_ptr<const LoadedModel>& model) {
  std::erase_if(workspaces_, [](const auto& entry) { return entry.first.expired(); });
  for (const auto& [owner, workspace] : workspaces_) {
    if (owner.lock() == model) return *workspace;
  }
  return *workspaces_.emplace_back(model, model->attention.NewWorkspace(arena_)).second;
}

}  // namespace headlight
