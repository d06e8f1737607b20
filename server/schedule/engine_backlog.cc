// SPDX-License-Identifier: Apache-2.0
//
// The part of EngineState that looks ahead: what runs and waits, how long that takes, what a ticket would
// meet.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "server/schedule/engine_state.h"

namespace headlight {
namespace {

constexpr double kLeastLeft = 0.05;  // of its prediction: what a batch that overruns is taken to need still

double SpanNs(TimePoint begin, TimePoint end) {
  return std::chrono::duration<double, std::nano>(end - begin).count();
}

}  // namespace

double EngineState::RanNs(TimePoint now, Lane lane) const {
  const Running& run = running(lane);
  double ran_ns = SpanNs(run.start, now) - run.paused_ns;
  if (lane == Lane::kLong && is_running(Lane::kShort))
    ran_ns -= SpanNs(std::max(run.start, short_running_.start), now);
  return std::max(ran_ns, 1.0);
}

double EngineState::LeftNs(TimePoint now, Lane lane) const {
  if (!is_running(lane)) return 0;
  const double predicted_ns = running(lane).predicted_ns;
  return std::max(predicted_ns - RanNs(now, lane) / admission(lane).correction(), predicted_ns * kLeastLeft);
}

double EngineState::ShortUse(TimePoint now) const {
  return short_use_ * std::exp(-std::max(0.0, SpanNs(short_use_at_, now)) / kShortUseWindowNs);
}

WorkAhead EngineState::AheadOf(TimePoint now, const Ticket& ticket, Lane lane) const {
  const AheadInQueue in_queue = queue(lane).AheadOf(now, ticket);
  const double correction = admission(lane).correction();
  WorkAhead ahead;
  ahead.idle = queue(lane).empty() && !is_running(lane);
  ahead.running_ns = LeftNs(now, lane);
  ahead.waiting_ns = in_queue.waiting_ns;
  ahead.squares_ns2 = in_queue.squares_ns2 + running(lane).squares_ns2;
  const double share = std::clamp(options_.long_share, 0.0, 0.9);
  if (lane == Lane::kLong) {
    ahead.slowdown = 1 / (1 - std::min(ShortUse(now), 1 - share));
  } else if (is_running(Lane::kLong) || has_waiting(Lane::kLong)) {
    ahead.slowdown = 1 / (1 - share);
    ahead.slowdown_limit_ns =
        admission(Lane::kLong).correction() * (LeftNs(now, Lane::kLong) + long_queue_.predicted_ns());
  }
  if (std::isfinite(in_queue.latest_start_ns)) {
    // latest_start counts the tickets behind as predicted; they take `correction` times as long.
    const double until_then_ns = admission(lane).ExpectedNs(ahead, 0);
    const double longer_ns = std::max(0.0, correction - 1) * in_queue.behind_ns;
    ahead.slack_behind_ns = in_queue.latest_start_ns - static_cast<double>(now.time_since_epoch().count()) -
                            until_then_ns - longer_ns;
  }
  return ahead;
}

Backlog EngineState::GetBacklog(TimePoint now) const {
  const double short_correction = short_admission_.correction();
  const double long_correction = long_admission_.correction();
  Backlog backlog;
  backlog.waiting_ns = static_cast<int64_t>(short_queue_.predicted_ns() * short_correction);
  backlog.running_ns = static_cast<int64_t>(LeftNs(now, Lane::kShort) * short_correction);
  backlog.long_waiting_ns = static_cast<int64_t>(long_queue_.predicted_ns() * long_correction);
  backlog.long_running_ns = static_cast<int64_t>(LeftNs(now, Lane::kLong) * long_correction);
  backlog.num_waiting = short_queue_.num_tickets() + long_queue_.num_tickets();
  backlog.num_running = static_cast<int64_t>(short_running_.tickets.size() + long_running_.tickets.size());
  backlog.num_held_back = short_queue_.num_held_back() + long_queue_.num_held_back();
  return backlog;
}

std::optional<Refusal> EngineState::DecideFromHeaders(TimePoint now, TimePoint deadline,
                                                      const Caller& caller) const {
  Ticket ticket;
  ticket.arrival = now;
  ticket.deadline = deadline;
  ticket.caller = caller;
  ticket.id = std::numeric_limits<uint64_t>::max();  // behind those of the same deadline
  return short_admission_.DecideFromHeaders(now, deadline, AheadOf(now, ticket, Lane::kShort));
}

Estimate EngineState::EstimateTicket(TimePoint now, const Ticket& like) const {
  Ticket ticket;
  ticket.arrival = now;
  ticket.deadline = like.deadline;
  ticket.caller = like.caller;
  ticket.priority = like.priority;
  ticket.cost = like.cost;
  ticket.cost_class = like.cost_class;
  ticket.held_back = like.held_back;
  ticket.id = std::numeric_limits<uint64_t>::max();
  Predict(ticket);
  const Lane lane = LaneOf(ticket);
  const double own_ns = static_cast<double>(ticket.predicted_ns) * admission(lane).correction();
  Estimate estimate;
  estimate.compute_us = static_cast<int64_t>(own_ns / 1e3);
  estimate.queue_us = static_cast<int64_t>(admission(lane).ExpectedNs(AheadOf(now, ticket, lane), 0) / 1e3);
  estimate.refusal = Decide(now, ticket, lane);
  return estimate;
}

}  // namespace headlight
