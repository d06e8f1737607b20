// SPDX-License-Identifier: Apache-2.0
//
// Where the schedule's tickets become batches: one lane for short work and one for long, each with threads
// and workspaces of its own.
#ifndef HEADLIGHT_SERVER_BATCH_BATCH_LANE_H_
#define HEADLIGHT_SERVER_BATCH_BATCH_LANE_H_

#include <memory>
#include <span>

#include "absl/status/status.h"
#include "core/runtime/compute_arena.h"
#include "server/batch/batch_executor.h"
#include "server/schedule/batch_runner.h"

namespace headlight {

// Its tickets carry BatchWork.
class BatchLane final : public PausableRunner {
 public:
  // `executor` computes on `arena`; both must outlive it.
  BatchLane(BatchExecutor& executor, ComputeArena& arena) : executor_(executor), arena_(arena) {}

  absl::Status Run(std::span<const std::unique_ptr<Ticket>> batch) override;
  void Wake() override { arena_.Wake(); }
  void BeginPause() override { arena_.BeginPause(); }
  void Pause() override { arena_.Pause(); }
  void Resume() override { arena_.Resume(); }

 private:
  BatchExecutor& executor_;
  ComputeArena& arena_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_BATCH_LANE_H_
