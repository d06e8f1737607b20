// SPDX-License-Identifier: Apache-2.0
//
// One server in simulated time: the very EngineState that a server's scheduler goes by, and in place of its
// threads a formula for how long a batch takes. Mirrors Scheduler's two lanes.
#ifndef HEADLIGHT_CAPACITY_SIMULATED_SERVER_H_
#define HEADLIGHT_CAPACITY_SIMULATED_SERVER_H_

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "server/schedule/clock.h"
#include "server/schedule/engine_state.h"
#include "server/schedule/ticket.h"

namespace headlight::capacity {

// Not thread-safe. Time is an argument and never goes back.
class SimulatedServer {
 public:
  // How many nanoseconds `batch`, which begins now, takes.
  using BatchTime = std::function<double(const Batch& batch)>;

  SimulatedServer(const EngineOptions& options, bool has_long_lane, BatchTime batch_time)
      : engine_(options, has_long_lane), batch_time_(std::move(batch_time)) {}

  // When Advance next has something to do; max: not before a ticket comes.
  TimePoint next_event() const;

  // Does what is due at `now`, which is at most next_event(); what ends by it is appended to `ended`.
  void Advance(TimePoint now, std::vector<FinishedTicket>& ended);

  // A ticket comes. Given back with the refusal if it is not admitted. `ended`: what ends by looking at what
  // is to be run next.
  std::optional<FinishedTicket> Submit(TimePoint now, std::unique_ptr<Ticket> ticket,
                                       std::vector<FinishedTicket>& ended);

  EngineState& engine() { return engine_; }
  double busy_ns() const { return busy_ns_; }  // computed so far, of batches that have ended

 private:
  // What a lane computes. Without tickets: nothing.
  struct Run {
    Batch batch;
    double takes_ns = 0;
    TimePoint finish = TimePoint::max();  // max also while it stands still
    double left_ns = 0;                   // while it stands still
  };

  void Start(TimePoint now, Step step, Run& run);
  void End(TimePoint now, Run& run, std::vector<FinishedTicket>& ended);
  void PauseLong(TimePoint now);
  void ResumeLong(TimePoint now);
  void Dispatch(TimePoint now, std::vector<FinishedTicket>& ended);

  EngineState engine_;
  BatchTime batch_time_;
  Run short_run_;
  Run long_run_;
  TimePoint ask_again_ = TimePoint::max();
  double busy_ns_ = 0;
};

}  // namespace headlight::capacity

#endif  // HEADLIGHT_CAPACITY_SIMULATED_SERVER_H_
