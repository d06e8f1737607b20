// SPDX-License-Identifier: Apache-2.0
//
// Computes a batch on the arena: packed, forward, and taken apart again. Knows nothing of gRPC or of queues.
#ifndef HEADLIGHT_SERVER_BATCH_BATCH_EXECUTOR_H_
#define HEADLIGHT_SERVER_BATCH_BATCH_EXECUTOR_H_

#include <cstdint>
#include <memory>
#include <semaphore>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "core/attention/forward_shape.h"
#include "core/model/model.h"
#include "core/runtime/compute_arena.h"
#include "server/batch/batch_input.h"
#include "server/batch/batch_result.h"
#include "server/memory/buffer_pool.h"
#include "server/memory/memory_budget.h"

namespace headlight {

// What the scheduler needs of a batch's computation. Called from one thread at a time.
class BatchExecutor {
 public:
  virtual ~BatchExecutor() = default;

  // Computes `inputs`, all of one model and one InputKind; at least one. Returns one result for each, in
  // their order; the result of a request that was cancelled meanwhile is unspecified. An error is the whole
  // batch's. RESOURCE_EXHAUSTED: memory is short. Others as Model::Forward. Buffers take over what they can
  // of `memory`, which was reserved for them.
  virtual absl::StatusOr<std::vector<BatchResult>> Execute(std::span<const BatchInput* const> inputs,
                                                           Lease& memory) = 0;
  absl::StatusOr<std::vector<BatchResult>> Execute(std::span<const BatchInput* const> inputs) {
    Lease nothing_reserved;
    return Execute(inputs, nothing_reserved);
  }
};

// The real one. Execute comes from one thread at a time, the rest from any.
class AttentionExecutor final : public BatchExecutor {
 public:
  // All must outlive it. Results are in memory of `pool`, which several executors may share; workspaces count
  // in `budget`, if there is one, and are given back when it is short.
  AttentionExecutor(ComputeArena& arena, BufferPool& pool, MemoryBudget* budget = nullptr);

  using BatchExecutor::Execute;
  absl::StatusOr<std::vector<BatchResult>> Execute(std::span<const BatchInput* const> inputs,
                                                   Lease& memory) override;

  // Gives back what of the workspace batches since the Trim before this one have used less than half of.
  // Called every second or so it returns what only a burst needed, or a model that is gone. Does nothing
  // while a batch is computed. Returns the bytes freed.
  int64_t Trim();

 private:
  // Makes lease_ cover what the workspace will hold after a batch of `shape`. What other batches left in it
  // gives way if need be. RESOURCE_EXHAUSTED: the budget has no room even so.
  absl::Status MakeRoom(const Model& model, const ForwardShape& shape);
  absl::StatusOr<std::vector<BatchResult>> Compute(std::span<const BatchInput* const> inputs, Lease& memory);

  ComputeArena& arena_;
  BufferPool& pool_;
  MemoryBudget* const budget_;
  // Taken while a batch is computed, and by Trim. No mutex: the budget may ask for memory back from inside of
  // a batch.
  std::binary_semaphore free_{1};
  // Of whoever has taken free_: what all models work in, and what is reserved for it.
  std::unique_ptr<ModelWorkspace> workspace_;
  Lease lease_;
  std::shared_ptr<const MemoryBudget::Reclaimer> reclaimer_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_BATCH_EXECUTOR_H_
