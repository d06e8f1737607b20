// SPDX-License-Identifier: Apache-2.0
//
// The engine of a server without its network: both lanes, and a scheduler that computes for real.
#ifndef HEADLIGHT_TESTS_SERVER_TEST_ENGINE_H_
#define HEADLIGHT_TESTS_SERVER_TEST_ENGINE_H_

#include <cstdint>
#include <future>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "core/runtime/compute_arena.h"
#include "server/batch/batch_executor.h"
#include "server/batch/batch_lane.h"
#include "server/batch/batch_work.h"
#include "server/batch/work_cost.h"
#include "server/memory/buffer_pool.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"

namespace headlight::testing {

// Thread-safe.
class TestEngine {
 public:
  TestEngine(const EngineOptions& options, int threads)
      : arena_(threads), long_arena_(threads), scheduler_(options, lane_, &long_lane_, clock_) {}

  // Computes `input`, in company if others come at the same time. With `cancel` it is cancelled at once, and
  // what becomes of it then depends on the wind.
  absl::StatusOr<BatchResult> Compute(BatchInput input, bool cancel = false) {
    auto work = std::make_unique<BatchWork>();
    auto ticket = std::make_unique<Ticket>();
    ticket->arrival = clock_.Now();
    DescribeWork(input, *ticket);
    ticket->cancelled = std::make_shared<CancellationToken>();
    work->input = std::move(input);
    work->input.cancelled = ticket->cancelled;
    ticket->work = std::move(work);
    std::promise<absl::StatusOr<BatchResult>> promise;
    ticket->done = [&promise](std::unique_ptr<Ticket> ended, Outcome outcome) {
      if (!outcome.status.ok()) return promise.set_value(outcome.status);
      promise.set_value(std::move(static_cast<BatchWork&>(*ended->work).result));
    };
    const TicketHandle handle = scheduler_.Submit(std::move(ticket));
    if (cancel) scheduler_.Cancel(handle);
    return promise.get_future().get();
  }

  Scheduler& scheduler() { return scheduler_; }

 private:
  SteadyClock clock_;
  BufferPool pool_{/*max_idle_bytes=*/int64_t{64} << 20};
  ComputeArena arena_;
  ComputeArena long_arena_;
  AttentionExecutor executor_{arena_, pool_};
  AttentionExecutor long_executor_{long_arena_, pool_};
  BatchLane lane_{executor_, arena_};
  BatchLane long_lane_{long_executor_, long_arena_};
  Scheduler scheduler_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_TEST_ENGINE_H_
