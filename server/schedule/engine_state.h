// SPDX-License-Identifier: Apache-2.0
//
// Every decision of the scheduler and none of its threads: what is admitted, what is computed next and on
// which lane, what is dropped. Time comes in as an argument, so that a simulation can drive it.
#ifndef HEADLIGHT_SERVER_SCHEDULE_ENGINE_STATE_H_
#define HEADLIGHT_SERVER_SCHEDULE_ENGINE_STATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "server/schedule/admission.h"
#include "server/schedule/clock.h"
#include "server/schedule/cost_model.h"
#include "server/schedule/size_correction.h"
#include "server/schedule/ticket.h"
#include "server/schedule/ticket_queue.h"

namespace headlight {

// What is predicted to take more than so many times the budget of a batch gives way to what is shorter: a
// server's EngineOptions::long_run_us.
inline constexpr int64_t kLongRunBudgets = 20;

struct EngineOptions {
  int64_t batch_budget_us = 5'000;      // predicted; a larger ticket is a batch of its own
  int64_t max_batch_tokens = 16'384;    // of Ticket::tokens; a larger ticket is a batch of its own
  int64_t queue_max_requests = 10'000;  // that wait, held-back ones not counted
  int64_t max_age_us = 1'000'000;       // a ticket goes by this deadline if its own is later
  int64_t priority_step_us =
      20'000;                     // a ticket's place is that of a deadline earlier by this for each priority
  double held_back_share = 0.25;  // of a caller's weight: what its held-back tickets weigh
  int64_t held_back_room_us =
      50'000;                    // predicted work of held-back tickets up to which there is room for more
  int64_t long_run_us = 40'000;  // what is predicted to take longer runs on the long lane
  double long_share = 0.25;      // of the time, which the long lane gets at least while it has work
  AdmissionOptions admission;
  // For tests: every prediction is multiplied with what it returns. Empty: 1.
  std::function<double()> distort_prediction;
};

// Predicted, corrected.
struct Backlog {
  int64_t waiting_ns = 0;       // short lane
  int64_t running_ns = 0;       // what is left of it
  int64_t long_waiting_ns = 0;  // long lane
  int64_t long_running_ns = 0;
  int64_t num_waiting = 0;  // both lanes
  int64_t num_running = 0;
  int64_t num_held_back = 0;  // of num_waiting

  double seconds() const {  // all of what waits and runs
    return 1e-9 * static_cast<double>(waiting_ns + running_ns + long_waiting_ns + long_running_ns);
  }
};

struct Estimate {
  int64_t compute_us = 0;
  int64_t queue_us = 0;
  std::optional<Refusal> refusal;  // none: it would be admitted now
};

enum class Lane { kShort, kLong };

struct Batch {
  std::vector<std::unique_ptr<Ticket>> tickets;  // of one BatchKey; one ticket on the long lane
  Lane lane = Lane::kShort;
  TimePoint start;
};

// What a lane should do.
struct Step {
  Batch batch;                             // to run now; without tickets: nothing
  TimePoint ask_again = TimePoint::max();  // when nothing is to be run now, but will be then
  std::vector<FinishedTicket> dropped;     // that nobody waits for, or that can no longer be done in time
};

// Not thread-safe. Never calls `done`: it hands the tickets that have ended back.
class EngineState {
 public:
  // Without a long lane every ticket runs on the short one.
  EngineState(const EngineOptions& options, bool has_long_lane);

  // Puts `ticket` in line and sets `handle`, or gives it back with the refusal. O(log tickets + callers).
  std::optional<FinishedTicket> Submit(TimePoint now, std::unique_ptr<Ticket> ticket, TicketHandle& handle);

  // Takes a waiting ticket out and gives it back; sets the token of a running one. `known` tells whether it
  // was either. O(log tickets).
  std::optional<FinishedTicket> Cancel(TimePoint now, TicketHandle handle, bool& known);

  // What `lane`, which must be idle, should run next.
  Step Take(TimePoint now, Lane lane);

  // `batch` has been run, with `status`. While a short batch ran, a long run stood still.
  std::vector<FinishedTicket> Complete(TimePoint now, Batch batch, const absl::Status& status);

  // Takes out the waiting tickets whose deadline is at or before `now`, and sets the tokens of those on the
  // long lane.
  std::vector<FinishedTicket> Expire(TimePoint now);
  TimePoint next_deadline() const;  // when Expire will next have something to do

  // Takes out everything that waits, ended by `refusal`, and sets the tokens of what runs.
  std::vector<FinishedTicket> Abandon(TimePoint now, const Refusal& refusal);

  // The next Submit of a held-back ticket will be within the room for such tickets.
  bool has_room_for_held_back() const;
  int64_t num_held_back() const {
    return short_queue_.num_held_back() + long_queue_.num_held_back();
  }  // that wait

  bool idle() const;  // nothing waits, nothing runs
  bool has_waiting(Lane lane) const { return !queue(lane).empty(); }
  bool is_running(Lane lane) const { return !running(lane).tickets.empty(); }
  Backlog GetBacklog(TimePoint now) const;
  std::optional<Refusal> DecideFromHeaders(TimePoint now, TimePoint deadline, const Caller& caller) const;
  Estimate EstimateTicket(TimePoint now, const Ticket& ticket) const;

  CostModel& cost_model() { return cost_model_; }
  const Admission& admission(Lane lane) const {
    return lane == Lane::kShort ? short_admission_ : long_admission_;
  }

 private:
  static constexpr double kShortUseWindowNs = 1e9;  // short_use_ fades within it

  struct RunningTicket {
    uint64_t id = 0;
    TimePoint deadline;
    std::shared_ptr<CancellationToken> cancelled;
  };
  // What is known of a lane's batch while it runs; without tickets: the lane is idle.
  struct Running {
    std::vector<RunningTicket> tickets;
    TimePoint start;
    double predicted_ns = 0;
    double squares_ns2 = 0;  // of the tickets' predictions
    double paused_ns = 0;    // a long run's, while short batches ran
    TimePoint idle_since;    // of a lane that is idle
  };

  // What was learnt of a class beside its line.
  struct Experience {
    TimePoint last_observed = TimePoint::min();
    SizeCorrection sizes;
  };

  TicketQueue& queue(Lane lane) { return lane == Lane::kShort ? short_queue_ : long_queue_; }
  const TicketQueue& queue(Lane lane) const { return lane == Lane::kShort ? short_queue_ : long_queue_; }
  Running& running(Lane lane) { return lane == Lane::kShort ? short_running_ : long_running_; }
  const Running& running(Lane lane) const { return lane == Lane::kShort ? short_running_ : long_running_; }
  Admission& admission(Lane lane) { return lane == Lane::kShort ? short_admission_ : long_admission_; }

  double PlainPredictionNs(const Ticket& ticket) const;  // of the line alone
  double SizeFactor(uint64_t cost_class, double plain_ns) const;
  void Predict(Ticket& ticket) const;
  Lane LaneOf(const Ticket& ticket) const;
  // How long what `lane` runs has been computed, without pauses, and how long it still takes; before
  // correction.
  double RanNs(TimePoint now, Lane lane) const;
  double LeftNs(TimePoint now, Lane lane) const;
  double ShortUse(TimePoint now) const;
  WorkAhead AheadOf(TimePoint now, const Ticket& ticket, Lane lane) const;
  bool IsProbe(TimePoint now, const Ticket& ticket) const;
  std::optional<Refusal> Decide(TimePoint now, const Ticket& ticket, Lane lane) const;
  // Ends a ticket that waited and will not be computed.
  FinishedTicket GiveUp(TimePoint now, std::unique_ptr<Ticket> ticket);
  void Share(TimePoint now, TimePoint short_start);  // a short batch has run since short_start
  void Learn(TimePoint now, const Batch& batch, double real_ns);

  const EngineOptions options_;
  const bool has_long_lane_;
  CostModel cost_model_;
  Admission short_admission_;
  Admission long_admission_;
  TicketQueue short_queue_;
  TicketQueue long_queue_;
  Running short_running_;
  Running long_running_;
  TimePoint short_from_ = TimePoint::min();  // until then the long lane has the cores for itself
  double short_use_ = 0;                     // the share of the time that the short lane runs, of late
  TimePoint short_use_at_;
  std::unordered_map<uint64_t, Experience> experience_;  // by cost class
  uint64_t last_id_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_ENGINE_STATE_H_
