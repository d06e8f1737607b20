// SPDX-License-Identifier: Apache-2.0
//
// Everything of one batch: the sequences of its requests one after the other (the one copy of a request's
// way), room for what comes out, and each request's part of it.
#ifndef HEADLIGHT_SERVER_BATCH_PACKED_BATCH_H_
#define HEADLIGHT_SERVER_BATCH_PACKED_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/attention/batch.h"
#include "core/model/model.h"
#include "core/runtime/compute_arena.h"
#include "server/batch/batch_input.h"
#include "server/batch/batch_result.h"
#include "server/batch/copy_list.h"
#include "server/memory/buffer_pool.h"
#include "server/memory/memory_budget.h"

namespace headlight {

// Its parts point at each other, so it stays where it is made. Not thread-safe; Pack, View and TakeResults
// once each, in this order.
class PackedBatch {
 public:
  // `inputs`, all of one model and one InputKind and at least one, `pool` and `memory` must outlive it.
  // Buffers take over what they can of `memory`.
  PackedBatch(std::span<const BatchInput* const> inputs, BufferPool& pool, Lease& memory);
  PackedBatch(const PackedBatch&) = delete;
  PackedBatch& operator=(const PackedBatch&) = delete;

  // Copies and converts on the arena. RESOURCE_EXHAUSTED: memory is short.
  absl::Status Pack(ComputeArena& arena);

  // What the model computes; points into this object.
  ModelBatch View() const;

  // What each request gets, in the type that it asks for, with the batch's counts filled in and the times
  // left at 0. Errors as Pack.
  absl::StatusOr<std::vector<BatchResult>> TakeResults(ComputeArena& arena);

 private:
  // A sequence of the batch and where its vector goes.
  struct PooledSequence {
    int64_t sequence;
    const BatchInput* input;
    float* to;
  };

  // Of one request; null where it needs none.
  struct RequestBuffers {
    std::shared_ptr<PooledBuffer> mask;  // unless it is read where it is
    std::shared_ptr<PooledBuffer> pooled;
    std::shared_ptr<PooledBuffer> weights;
    std::shared_ptr<PooledBuffer> keys;
    std::shared_ptr<PooledBuffer> received_mass;
    int64_t copied_bytes = 0;  // into the batch
  };

  absl::Status Acquire(int64_t size_bytes, std::shared_ptr<PooledBuffer>& buffer);
  absl::Status AcquireNumbers(int64_t count,
                              std::shared_ptr<PooledBuffer>& buffer);  // f32 or i32; none for 0

  void GatherTokens();
  absl::Status PlanInputs(CopyList& copies);
  absl::Status PlanMasks(CopyList& copies);
  absl::Status AllocateResults();
  void AddSequences();
  MaskView MaskOf(size_t index, int64_t sequence) const;
  // Of the first of the layers; the others' follow as `layers` says.
  WeightsSink SinkOf(size_t index, int64_t sequence, WeightsLayers& layers) const;
  bool IsPadded(const BatchInput& input) const;
  void Pool(ComputeArena& arena) const;
  // Hands out `count` numbers of `from` beginning with `first`: where they are if they stay f32 and are much
  // of it, else in memory of their own.
  absl::Status TakeNumbers(const std::shared_ptr<PooledBuffer>& from, int64_t first, int64_t count,
                           DType dtype, NarrowingList& narrowing, std::shared_ptr<const void>& to);

  const std::span<const BatchInput* const> inputs_;
  const AttentionConfig& config_;
  BufferPool& pool_;
  Lease& memory_;
  int64_t num_sequences_ = 0;
  int64_t q_tokens_ = 0;
  int64_t kv_tokens_ = 0;
  std::shared_ptr<PooledBuffer> query_, key_, value_, output_;  // all but output_ may be null
  std::vector<int32_t> token_ids_, token_types_;                // both may be empty
  std::vector<RequestBuffers> buffers_;                         // one for each request
  std::vector<int64_t> cu_q_lens_, cu_kv_lens_;
  std::vector<SequenceOptions> sequences_;
  std::vector<WeightsLayers> weights_layers_;  // one for each sequence
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_PACKED_BATCH_H_
