// SPDX-License-Identifier: Apache-2.0
#include "server/batch/batch_executor.h"

#include <algorithm>
#include <exception>
#include <new>
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
    : arena_(arena), pool_(pool), budget_(budget) {
  if (budget_ == nullptr) return;
  reclaimer_ = std::make_shared<const MemoryBudget::Reclaimer>([this](int64_t) {
    if (!free_.try_acquire()) return;
    TrimTo(/*all=*/true);
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
  const std::shared_ptr<const LoadedModel>& model = inputs.front()->model;
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  PackedBatch batch(inputs, pool_, memory);
  HEADLIGHT_RETURN_IF_ERROR(batch.Pack(arena_));
  const ModelBatch view = batch.View();
  HEADLIGHT_ASSIGN_OR_RETURN(Space* const space, SpaceFor(model, ShapeOf(view.attention)));
  const TimePoint packed = clock.Now();
  const absl::Status computed = model->model.Forward(view, arena_, *space->workspace);
  space->lease.Resize(space->workspace->held_bytes());
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

absl::StatusOr<AttentionExecutor::Space*> AttentionExecutor::SpaceFor(
    const std::shared_ptr<const LoadedModel>& model, const ForwardShape& shape) {
  spaces_.remove_if([](const Space& space) { return space.model.expired(); });
  auto space = std::find_if(spaces_.begin(), spaces_.end(),
                            [&](const Space& other) { return other.model.lock() == model; });
  if (space == spaces_.end()) {
    space =
        spaces_.insert(spaces_.end(), Space{.model = model, .workspace = model->model.NewWorkspace(arena_)});
  }
  if (budget_ == nullptr) return &*space;
  const int64_t bytes = model->model.ForwardBytes(shape, arena_.num_threads());
  space->needed_bytes = std::max(space->needed_bytes, bytes);
  if (bytes <= space->lease.bytes()) return &*space;
  const int64_t more = bytes - space->lease.bytes();
  HEADLIGHT_ASSIGN_OR_RETURN(Lease lease, budget_->Reserve(MemoryKind::kWorkspace, more));
  space->lease.Absorb(std::move(lease));
  return &*space;
}

int64_t AttentionExecutor::Trim() {
  if (!free_.try_acquire()) return 0;
  const int64_t freed_bytes = TrimTo(/*all=*/false);
  free_.release();
  return freed_bytes;
}

int64_t AttentionExecutor::TrimTo(bool all) {
  int64_t freed_bytes = 0;
  for (Space& space : spaces_) {
    const int64_t held = space.workspace->held_bytes();
    space.workspace->Trim(all ? 0 : space.needed_bytes);
    space.lease.Resize(space.workspace->held_bytes());
    space.needed_bytes = 0;
    freed_bytes += held - space.workspace->held_bytes();
  }
  return freed_bytes;
}

}  // namespace headlight
