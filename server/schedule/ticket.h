// SPDX-License-Identifier: Apache-2.0
//
// What the scheduler sees of a request: when it must be done, for whom, what it will cost, and what to call
// in the end. What is computed stays inside `Work`, which nobody here looks into.
#ifndef HEADLIGHT_SERVER_SCHEDULE_TICKET_H_
#define HEADLIGHT_SERVER_SCHEDULE_TICKET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "core/runtime/cancellation.h"
#include "server/schedule/clock.h"

namespace headlight {

// What a request takes, in numbers that its shapes alone give. Costs of a batch are the sum of its requests'
// costs.
struct WorkCost {
  double projection_flops = 0;  // what grows with the tokens
  double attention_flops = 0;   // what grows with pairs of tokens, after mask and window
  double bytes = 0;             // payload that is packed and unpacked

  WorkCost& operator+=(const WorkCost& other) {
    projection_flops += other.projection_flops;
    attention_flops += other.attention_flops;
    bytes += other.bytes;
    return *this;
  }
};

// What is to be computed and, after that, what came out. It also holds what must live as long, such as a
// lease of memory. The runner's business alone.
class Work {
 public:
  virtual ~Work() = default;
};

// Tickets of equal keys may share a batch.
struct BatchKey {
  const void* model = nullptr;  // only ever compared
  uint64_t kind = 0;

  friend bool operator==(const BatchKey&, const BatchKey&) = default;
};

// Who asks. Callers that wait at the same time get compute time in proportion to their weights.
struct Caller {
  uint64_t id = 0;
  double weight = 1;  // > 0; that of the caller's latest ticket holds
};

// Short words that do not change: they travel in AttendError.reason and in metrics.
inline constexpr char kReasonQueueFull[] = "queue_full";
inline constexpr char kReasonBehindQueue[] = "behind_queue";
inline constexpr char kReasonDeadlineTooShort[] = "deadline_too_short";
inline constexpr char kReasonDeadlinePassed[] = "deadline_passed";
inline constexpr char kReasonMemory[] = "memory";
inline constexpr char kReasonDraining[] = "draining";
inline constexpr char kReasonCancelled[] = "cancelled";
inline constexpr char kReasonRateLimited[] = "rate_limited";
inline constexpr char kReasonUnauthenticated[] = "unauthenticated";

// Why something is not computed.
struct Refusal {
  absl::Status status;         // never OK
  std::string reason;          // one of the words above
  int64_t retry_after_us = 0;  // when there is likely to be room; 0: coming again would not help
};

// How a ticket ended.
struct Outcome {
  absl::Status status;  // OK: its Work holds the results
  std::string reason;   // one of the words above; empty if `status` says it all
  int64_t retry_after_us = 0;
  int64_t queue_us = 0;      // from arrival to the start of its batch, or to the end if it was never computed
  int64_t compute_us = 0;    // of its batch, without the pauses of a long run; 0 if it was never computed
  int64_t predicted_us = 0;  // what it alone was predicted to take
};

// Identifies an admitted ticket for as long as the scheduler lives; never used twice. 0: none.
struct TicketHandle {
  uint64_t id = 0;
};

struct Ticket {
  using Done = absl::AnyInvocable<void(std::unique_ptr<Ticket>, Outcome) &&>;

  TimePoint arrival;
  TimePoint deadline = TimePoint::max();  // max: none
  Caller caller;
  int32_t priority = 0;  // -10..10, higher goes first (EngineOptions::priority_step_us says by how much)
  WorkCost cost;
  int64_t tokens = 0;  // what EngineOptions::max_batch_tokens bounds
  uint64_t cost_class =
      0;  // tickets of one class cost alike (model and precision): CostModel learns each class
  BatchKey batch_key;
  // From a stream that is slowed down by not being read (Scheduler::WhenRoom): never refused for load.
  // Such tickets wait in a line of their own, with a share of the caller's weight.
  bool held_back = false;
  // Read by the runner while it computes; the scheduler sets it on Cancel and when the deadline of a long run
  // passes.
  std::shared_ptr<CancellationToken> cancelled;
  std::unique_ptr<Work> work;
  // Called exactly once, with the ticket itself, never under a lock of the scheduler.
  Done done;

  // The scheduler's own notes, filled in by Submit.
  uint64_t id = 0;
  int64_t predicted_ns = 0;  // to compute it alone, before admission's correction
  int64_t fixed_ns = 0;      // the part of predicted_ns that tickets of one batch share
  double distortion = 1;     // see EngineOptions::distort_prediction
};

// Ends `ticket`: calls its `done`.
inline void Finish(std::unique_ptr<Ticket> ticket, Outcome outcome) {
  Ticket::Done done = std::move(ticket->done);  // `done` may destroy the ticket while it runs
  std::move(done)(std::move(ticket), std::move(outcome));
}

// A ticket that has ended and whose `done` is still to be called.
struct FinishedTicket {
  std::unique_ptr<Ticket> ticket;
  Outcome outcome;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_TICKET_H_
