// SPDX-License-Identifier: Apache-2.0
#include "server/batch_executor.h"

#include <algorithm>
#include <cstddef>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/attention/batch.h"
#include "core/base/status_macros.h"
#include "core/tensor/convert.h"

namespace headlight {
namespace {

// Elements that one thread copies or converts before it takes the next piece: long enough to hide the
// hand-over, short enough to spread a batch over all threads.
constexpr int64_t kPieceElements = int64_t{1} << 18;

// What a narrow tensor passes through on its way to f32: small enough for the first cache. Elements that the
// network has cut in two are whole in it.
constexpr int64_t kStagingBytes = int64_t{8} << 10;

absl::Status OutOfMemory(int64_t size_bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("memory is short: no ", size_bytes, " bytes for the batch"));
}

// Bytes of an element where the kernels read it: numbers are f32 by then.
int64_t PackedSizeOf(DType dtype) { return dtype == DType::kBool ? 1 : SizeOf(DType::kF32); }

// Copies elements of a payload, as f32 if they are numbers.
void Unpack(const ByteSegments& from, DType dtype, int64_t first, int64_t count, std::byte* to) {
  const int64_t size = SizeOf(dtype);
  if (size == PackedSizeOf(dtype)) return from.CopyTo(first * size, count * size, to);
  alignas(64) std::byte staging[kStagingBytes];
  float* out = static_cast<float*>(static_cast<void*>(to));
  while (count > 0) {
    const int64_t take = std::min(count, kStagingBytes / size);
    from.CopyTo(first * size, take * size, staging);
    ConvertToF32(dtype, staging, take, out);
    first += take;
    count -= take;
    out += take;
  }
}

// A list of copies, done together by all threads of the arena.
class CopyList {
 public:
  void Add(const ByteSegments& from, DType dtype, int64_t first, int64_t count, std::byte* to) {
    while (count > 0) {
      if (piece_elements_ == 0) pieces_.push_back(copies_.size());
      const int64_t take = std::min(count, kPieceElements - piece_elements_);
      copies_.push_back({&from, dtype, first, take, to});
      piece_elements_ = (piece_elements_ + take) % kPieceElements;
      first += take;
      to += take * PackedSizeOf(dtype);
      count -= take;
    }
  }

  void Run(ComputeArena& arena) const {
    arena.ForEach(static_cast<int64_t>(pieces_.size()), [this](int64_t piece, int) {
      const bool last = piece + 1 == static_cast<int64_t>(pieces_.size());
      const size_t end = last ? copies_.size() : pieces_[piece + 1];
      for (size_t i = pieces_[piece]; i < end; ++i) {
        const Copy& copy = copies_[i];
        Unpack(*copy.from, copy.dtype, copy.first, copy.count, copy.to);
      }
    });
  }

 private:
  struct Copy {
    const ByteSegments* from;
    DType dtype;
    int64_t first;
    int64_t count;
    std::byte* to;
  };
  std::vector<Copy> copies_;
  std::vector<size_t> pieces_;  // first copy of each piece
  int64_t piece_elements_ = 0;  // of the last piece, so far
};

// Results on their way from f32 to a narrower type, a piece for each thread at a time.
class NarrowingList {
 public:
  void Add(const float* from, int64_t count, DType dtype, std::byte* to) {
    for (int64_t first = 0; first < count; first += kPieceElements) {
      pieces_.push_back(
          {from + first, std::min(count - first, kPieceElements), dtype, to + first * SizeOf(dtype)});
    }
  }

  void Run(ComputeArena& arena) const {
    if (pieces_.empty()) return;
    arena.ForEach(static_cast<int64_t>(pieces_.size()), [this](int64_t i, int) {
      const Piece& piece = pieces_[i];
      ConvertFromF32(piece.from, piece.count, piece.dtype, piece.to);
    });
  }

 private:
  struct Piece {
    const float* from;
    int64_t count;
    DType dtype;
    std::byte* to;
  };
  std::vector<Piece> pieces_;
};

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
        config_(tasks.front().model->model.config().block.attention),
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
    batch.query = MatrixOf(query_, q_tokens_, config_.embed_dim);
    batch.key = key_ == nullptr ? batch.query : MatrixOf(key_, kv_tokens_, config_.kdim);
    batch.value = value_ == nullptr ? batch.key : MatrixOf(value_, kv_tokens_, config_.vdim);
    batch.cu_q_lens = cu_q_lens_;
    batch.cu_kv_lens = cu_kv_lens_;
    batch.sequences = sequences_;
    batch.output = {output_->floats(), q_tokens_, config_.embed_dim, config_.embed_dim};
    return model_batch;
  }

  // What each task gets, in the type that it asks for. Once, after the computation.
  absl::StatusOr<std::vector<AttendResult>> TakeResults(ComputeArena& arena) {
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
      HEADLIGHT_RETURN_IF_ERROR(
          take(output_, first_row * config_.embed_dim, task.q_tokens * config_.embed_dim, result.output));
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
  // Of one task; null where it needs none.
  struct TaskBuffers {
    std::shared_ptr<Buffer> mask;  // unless it is read where it is
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

  absl::Status PlanInputs(CopyList& copies) {
    const InputKind kind = tasks_.front().kind;
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

  absl::Status AllocateResults() {
    HEADLIGHT_RETURN_IF_ERROR(AcquireNumbers(q_tokens_ * config_.embed_dim, output_));
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const WeightsRequest& request = tasks_[i].weights;
      TaskBuffers& buffers = buffers_[i];
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
  const AttentionConfig& config_;
  BufferPool& pool_;
  int64_t num_sequences_ = 0;
  int64_t q_tokens_ = 0;
  int64_t kv_tokens_ = 0;
  std::shared_ptr<Buffer> query_, key_, value_, output_;  // key_ and value_ may be null
  std::vector<TaskBuffers> buffers_;                      // one for each task
  std::vector<int64_t> cu_q_lens_, cu_kv_lens_;
  std::vector<SequenceOptions> sequences_;
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
