// SPDX-License-Identifier: Apache-2.0
//
// Turns tasks into one batch: packs their sequences one after the other (the one copy of a request's way),
// computes on the arena, and hands each task its part of the results. Knows nothing of gRPC or of queues.
#ifndef HEADLIGHT_SERVER_BATCH_BATCH_EXECUTOR_H_
#define HEADLIGHT_SERVER_BATCH_BATCH_EXECUTOR_H_

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/model.h"
#include "core/runtime/compute_arena.h"
#include "server/batch/attend_task.h"
#include "server/memory/buffer_pool.h"

namespace headlight {

// What the scheduler needs of a batch's computation. Called from one thread at a time.
class BatchExecutor {
 public:
  virtual ~BatchExecutor() = default;

  // Computes `tasks`, all of one model and one InputKind; at least one. Returns one result for each, in their
  // order, with the batch's counts filled in and the times left at 0; the result of a task that was cancelled
  // meanwhile is unspecified. An error is the whole batch's. RESOURCE_EXHAUSTED: memory is short. Others as
  // Model::Forward.
  virtual absl::StatusOr<std::vector<AttendResult>> Execute(std::span<const AttendTask> tasks) = 0;
};

// The real one.
class AttentionExecutor final : public BatchExecutor {
 public:
  // `arena` must outlive it. Up to max_idle_bytes of memory are kept between batches.
  AttentionExecutor(ComputeArena& arena, int64_t max_idle_bytes) : arena_(arena), pool_(max_idle_bytes) {}

  absl::StatusOr<std::vector<AttendResult>> Execute(std::span<const AttendTask> tasks) override;

 private:
  // The workspace that belongs to `model`; those of models that are gone are freed on the way.
  ModelWorkspace& WorkspaceOf(const std::shared_ptr<const LoadedModel>& model);

  ComputeArena& arena_;
  BufferPool pool_;
  std::vector<std::pair<std::weak_ptr<const LoadedModel>, std::unique_ptr<ModelWorkspace>>> workspaces_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_BATCH_EXECUTOR_H_
