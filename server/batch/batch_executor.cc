// SPDX-License-Identifier: Apache-2.0
#include "server/batch/batch_executor.h"

#include <exception>
#include <new>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/batch/packed_batch.h"
#include "server/schedule/clock.h"

namespace headlight {
namespace {

class Taken {
 public:
  explicit Taken(std::binary_semaphore& semaphore) : semaphore_(semaphore) { semaphore_.acquire(); }
  ~Taken() { semaphore_.release(); }
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;

 private:
  std::binary_semaphore& semaphore_;
};

}  // namespace

AttentionExecutor::AttentionExecutor(ComputeArena& arena, BufferPool& pool, MemoryBudget* budget)
    : arena_(arena), pool_(pool), budget_(budget), workspace_(Model::NewWorkspace(arena)) {
  if (budget_ == nullptr) return;
  reclaimer_ = std::make_shared<const MemoryBudget::Reclaimer>([this](int64_t) {
    if (!free_.try_acquire()) return;
    workspace_->Trim(0);
    lease_.Resize(workspace_->held_bytes());
    free_.release();
  });
  budget_->AddReclaimer(reclaimer_);
}

absl::StatusOr<std::vector<BatchResult>> AttentionExecutor::Execute(std::span<const BatchInput* const> inputs,
                                                                    Lease& memory) {
  const Taken taken(free_);
  absl::StatusOr<std::vector<BatchResult>> results = absl::UnknownError("");
  try {
    arena_.Within([&] { results = Compute(inputs, memory); });
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("memory is short: the batch's lists do not fit");
  } catch (
      const std::exception& error) {  // of oneTBB, or of a list that would be too long: the end of this batch
    return absl::InternalError(absl::StrCat("the batch failed: ", error.what()));
  }
  return results;
}

absl::StatusOr<std::vector<BatchResult>> AttentionExecutor::Compute(std::span<const BatchInput* const> inputs,
                                                                    Lease& memory) {
  const Model& model = inputs.front()->model->model;
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  PackedBatch batch(inputs, pool_, memory);
  HEADLIGHT_RETURN_IF_ERROR(batch.Pack(arena_));
  const ModelBatch view = batch.View();
  HEADLIGHT_RETURN_IF_ERROR(MakeRoom(model, ShapeOf(view.attention)));
  const TimePoint packed = clock.Now();
  const absl::Status computed = model.Forward(view, arena_, *workspace_);
  lease_.Resize(workspace_->held_bytes());
  if (absl::IsInvalidArgument(computed)) {  // inputs are valid by construction: this is no caller's fault
    return absl::InternalError(absl::StrCat("the batch is malformed: ", std::string(computed.message())));
  }
  HEADLIGHT_RETURN_IF_ERROR(computed);
  const TimePoint ready = clock.Now();
  HEADLIGHT_ASSIGN_OR_RETURN(std::vector<BatchResult> results, batch.TakeResults(arena_));
  const int64_t unpack_us = MicrosecondsBetween(ready, clock.Now());
  for (BatchResult& result : results) {
    result.pack_us = MicrosecondsBetween(begin, packed);
    result.compute_us = MicrosecondsBetween(packed, ready);
    result.unpack_us = unpack_us;
  }
  return results;
}

absl::Status AttentionExecutor::MakeRoom(const Model& model, const ForwardShape& shape) {
  if (budget_ == nullptr) return absl::OkStatus();
  const auto missing_bytes = [&] {
    return workspace_->held_bytes() + model.ForwardGrowth(shape, *workspace_) - lease_.bytes();
  };
  int64_t more = missing_bytes();
  if (more <= 0) return absl::OkStatus();
  std::optional<Lease> lease = budget_->TryReserve(MemoryKind::kWorkspace, more);
  if (!lease) {
    workspace_ = Model::NewWorkspace(arena_);  // as for the first batch, which was promised that it fits
    lease_.Release();
    more = missing_bytes();
    HEADLIGHT_ASSIGN_OR_RETURN(lease, budget_->Reserve(MemoryKind::kWorkspace, more));
  }
  lease_.Absorb(*std::move(lease));
  return absl::OkStatus();
}

int64_t AttentionExecutor::Trim() {
  if (!free_.try_acquire()) return 0;
  const int64_t held = workspace_->held_bytes();
  workspace_->TrimUnused();
  lease_.Resize(workspace_->held_bytes());
  const int64_t freed_bytes = held - workspace_->held_bytes();
  free_.release();
  return freed_bytes;
}

}  // namespace headlight
