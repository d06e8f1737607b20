// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/engine_state.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

using std::chrono::nanoseconds;

constexpr auto kTrustFades = std::chrono::seconds(10);  // a class not computed for so long is tried once more
constexpr auto kRest = std::chrono::milliseconds(10);   // a lane that was idle for so long begins afresh
constexpr int64_t kSettledAfter = 4;                    // batches of a class

double NsOf(TimePoint::duration duration) {
  return std::chrono::duration<double, std::nano>(duration).count();
}

nanoseconds DurationOf(double ns) { return nanoseconds(static_cast<int64_t>(std::min(ns, 9e18))); }

FinishedTicket Ended(TimePoint now, std::unique_ptr<Ticket> ticket, Refusal refusal) {
  Outcome outcome{std::move(refusal.status), std::move(refusal.reason), refusal.retry_after_us};
  outcome.queue_us = std::max<int64_t>(0, MicrosecondsBetween(ticket->arrival, now));
  outcome.predicted_us = ticket->predicted_ns / 1000;
  return {std::move(ticket), std::move(outcome)};
}

Refusal Cancelled(const char* when) {
  return {absl::CancelledError(absl::StrCat("the caller cancelled while the request was ", when)),
          kReasonCancelled};
}

Refusal TooLate(const char* when) {
  return {absl::DeadlineExceededError(absl::StrCat("the deadline passed while the request was ", when)),
          kReasonDeadlinePassed};
}

bool HasDeadline(const Ticket& ticket) { return ticket.deadline != TimePoint::max() && !ticket.held_back; }

}  // namespace

EngineState::EngineState(const EngineOptions& options, bool has_long_lane)
    : options_(options),
      has_long_lane_(has_long_lane),
      short_admission_(options.admission),
      long_admission_(options.admission),
      short_queue_({options.max_age_us, options.priority_step_us, options.held_back_share}),
      long_queue_({options.max_age_us, options.priority_step_us, options.held_back_share}) {}

double EngineState::PlainPredictionNs(const Ticket& ticket) const {
  return cost_model_.PredictNs(ticket.cost_class, ticket.cost) * ticket.distortion;
}

double EngineState::SizeFactor(uint64_t cost_class, double plain_ns) const {
  const auto experience = experience_.find(cost_class);
  return experience == experience_.end() ? 1 : experience->second.sizes.Factor(plain_ns);
}

void EngineState::Predict(Ticket& ticket) const {
  const double plain_ns = PlainPredictionNs(ticket);
  const double factor = SizeFactor(ticket.cost_class, plain_ns);
  const double fixed_ns = cost_model_.FixedNs(ticket.cost_class) * ticket.distortion * factor;
  ticket.predicted_ns = std::max<int64_t>(1, static_cast<int64_t>(std::min(plain_ns * factor, 1e18)));
  ticket.fixed_ns = std::min(ticket.predicted_ns, static_cast<int64_t>(std::min(fixed_ns, 1e18)));
}

Lane EngineState::LaneOf(const Ticket& ticket) const {
  return has_long_lane_ && ticket.predicted_ns > options_.long_run_us * 1000 ? Lane::kLong : Lane::kShort;
}

std::optional<FinishedTicket> EngineState::Submit(TimePoint now, std::unique_ptr<Ticket> ticket,
                                                  TicketHandle& handle) {
  handle = {};
  ticket->id = ++last_id_;
  if (options_.distort_prediction) ticket->distortion = options_.distort_prediction();
  Predict(*ticket);
  if (ticket->cancelled->IsCancelled()) return Ended(now, std::move(ticket), Cancelled("received"));
  if (ticket->deadline <= now) return Ended(now, std::move(ticket), TooLate("received"));
  const Lane lane = LaneOf(*ticket);
  if (queue(lane).empty() && !is_running(lane) && now - running(lane).idle_since >= kRest)
    queue(lane).StartAfresh();
  std::optional<Refusal> refusal = Decide(now, *ticket, lane);
  admission(lane).Decided(*ticket, !refusal.has_value());
  if (refusal.has_value()) return Ended(now, std::move(ticket), *std::move(refusal));
  handle.id = ticket->id;
  queue(lane).Push(now, std::move(ticket));
  return std::nullopt;
}

std::optional<Refusal> EngineState::Decide(TimePoint now, const Ticket& ticket, Lane lane) const {
  const WorkAhead ahead = AheadOf(now, ticket, lane);
  const int64_t waiting = short_queue_.num_tickets() + long_queue_.num_tickets() -
                          short_queue_.num_held_back() - long_queue_.num_held_back();
  if (!ticket.held_back && waiting >= options_.queue_max_requests) {
    const double drain_ns = admission(lane).ExpectedNs(ahead, 0);
    return Refusal{absl::ResourceExhaustedError(
                       absl::StrCat("the queue is full: ", waiting, " requests wait, the limit is ",
                                    options_.queue_max_requests, " (--queue-max-requests)")),
                   kReasonQueueFull, std::max<int64_t>(1000, static_cast<int64_t>(drain_ns / 1e3))};
  }
  return admission(lane).Decide(now, ticket, ahead, IsProbe(now, ticket));
}

bool EngineState::IsProbe(TimePoint now, const Ticket& ticket) const {
  const auto experience = experience_.find(ticket.cost_class);
  return experience == experience_.end() || now - kTrustFades > experience->second.last_observed;
}

std::optional<FinishedTicket> EngineState::Cancel(TimePoint now, TicketHandle handle, bool& known) {
  known = true;
  for (const Lane lane : {Lane::kShort, Lane::kLong}) {
    if (std::unique_ptr<Ticket> ticket = queue(lane).Remove(handle.id)) {
      ticket->cancelled->Cancel();
      return Ended(now, std::move(ticket), Cancelled("queued"));
    }
    for (const RunningTicket& ticket : running(lane).tickets) {
      if (ticket.id != handle.id) continue;
      ticket.cancelled->Cancel();
      return std::nullopt;
    }
  }
  known = false;
  return std::nullopt;
}

FinishedTicket EngineState::GiveUp(TimePoint now, std::unique_ptr<Ticket> ticket) {
  if (ticket->cancelled->IsCancelled()) return Ended(now, std::move(ticket), Cancelled("queued"));
  if (HasDeadline(*ticket)) admission(LaneOf(*ticket)).Ended(/*late=*/true);
  return Ended(now, std::move(ticket), TooLate("queued, or can no longer be kept"));
}

Step EngineState::Take(TimePoint now, Lane lane) {
  Step step;
  if (queue(lane).empty()) return step;
  if (lane == Lane::kShort && is_running(Lane::kLong) && now < short_from_) {
    step.ask_again = short_from_;
    return step;
  }
  BatchLimits limits;
  limits.now = now;
  limits.budget_ns = lane == Lane::kShort ? static_cast<double>(options_.batch_budget_us) * 1e3 : 0;
  limits.max_tokens = options_.max_batch_tokens;
  limits.correction = admission(lane).correction();
  limits.doubt = std::min(1.0, admission(lane).deviation());
  std::vector<std::unique_ptr<Ticket>> dropped;
  step.batch.tickets = queue(lane).TakeBatch(limits, dropped);
  for (std::unique_ptr<Ticket>& ticket : dropped) step.dropped.push_back(GiveUp(now, std::move(ticket)));
  step.batch.lane = lane;
  step.batch.start = now;
  Running& run = running(lane);
  run = Running{};
  run.start = run.idle_since = now;  // idle still if all were dropped
  for (const std::unique_ptr<Ticket>& ticket : step.batch.tickets) {
    const auto ns = static_cast<double>(ticket->predicted_ns);
    run.tickets.push_back({ticket->id, ticket->deadline, ticket->cancelled});
    run.predicted_ns += ns;
    run.squares_ns2 += ns * ns;
  }
  return step;
}

std::vector<FinishedTicket> EngineState::Complete(TimePoint now, Batch batch, const absl::Status& status) {
  const double real_ns = RanNs(now, batch.lane);
  running(batch.lane) = Running{};
  running(batch.lane).idle_since = now;
  if (batch.lane == Lane::kShort) Share(now, batch.start);
  if (status.ok()) Learn(now, batch, real_ns);

  std::vector<FinishedTicket> finished;
  finished.reserve(batch.tickets.size());
  for (std::unique_ptr<Ticket>& ticket : batch.tickets) {
    const bool late = now > ticket->deadline;
    Refusal end;
    if (late) {
      end = TooLate("computed");
    } else if (ticket->cancelled->IsCancelled()) {  // its part of the results was perhaps not computed
      end = Cancelled("computed");
    } else if (!status.ok()) {
      end = {status, absl::IsResourceExhausted(status) ? kReasonMemory : ""};
    }
    if (HasDeadline(*ticket) && (late || end.status.ok())) admission(batch.lane).Ended(late);
    finished.push_back(Ended(batch.start, std::move(ticket), std::move(end)));
    finished.back().outcome.compute_us = static_cast<int64_t>(real_ns / 1e3);
  }
  return finished;
}

void EngineState::Share(TimePoint now, TimePoint short_start) {
  short_use_ = ShortUse(now) + NsOf(now - short_start) / kShortUseWindowNs;
  short_use_at_ = now;
  if (!is_running(Lane::kLong)) return;
  const double stood_still_ns = NsOf(now - std::max(short_start, long_running_.start));
  long_running_.paused_ns += stood_still_ns;
  const double share = std::clamp(options_.long_share, 0.0, 0.9);
  short_from_ = now + DurationOf(stood_still_ns * share / (1 - share));
}

void EngineState::Learn(TimePoint now, const Batch& batch, double real_ns) {
  const uint64_t cost_class = batch.tickets.front()->cost_class;
  Experience& experience = experience_[cost_class];
  WorkCost cost;
  double predicted_ns = 0;
  double squares_ns2 = 0;
  std::vector<double> plain_ns;
  for (const std::unique_ptr<Ticket>& ticket : batch.tickets) {
    if (ticket->cancelled->IsCancelled()) return;  // part of the work was left out
    cost += ticket->cost;
    plain_ns.push_back(PlainPredictionNs(*ticket));
    const double ns = plain_ns.back() * experience.sizes.Factor(plain_ns.back());
    predicted_ns += ns;
    squares_ns2 += ns * ns;
  }
  // A class's line moves with its first batches; only then is what it leaves unexplained worth learning.
  if (cost_model_.num_observed(cost_class) >= kSettledAfter) {
    // Sizes learn how they differ, the correction how all of them change: each takes the other's part as
    // given.
    experience.sizes.Observe(plain_ns, real_ns / admission(batch.lane).correction());
    admission(batch.lane).Observe(predicted_ns, squares_ns2, real_ns);
  }
  cost_model_.Observe(cost_class, cost, real_ns);
  experience.last_observed = now;
  // What waits was predicted with less knowledge. Seldom, because it touches every ticket: after 1, 2, 4, ...
  // batches.
  const int64_t observed = cost_model_.num_observed(cost_class);
  if ((observed & (observed - 1)) != 0) return;
  const auto predict = [this](Ticket& ticket) { Predict(ticket); };
  short_queue_.PredictAgain(predict);
  long_queue_.PredictAgain(predict);
}

std::vector<FinishedTicket> EngineState::Expire(TimePoint now) {
  std::vector<FinishedTicket> expired;
  for (const Lane lane : {Lane::kShort, Lane::kLong}) {
    for (std::unique_ptr<Ticket>& ticket : queue(lane).TakeExpired(now))
      expired.push_back(GiveUp(now, std::move(ticket)));
    for (RunningTicket& ticket : running(lane).tickets) {
      if (ticket.deadline > now) continue;
      ticket.cancelled->Cancel();
      ticket.deadline = TimePoint::max();  // done with
    }
  }
  return expired;
}

TimePoint EngineState::next_deadline() const {
  TimePoint next = std::min(short_queue_.next_deadline(), long_queue_.next_deadline());
  for (const Lane lane : {Lane::kShort, Lane::kLong}) {
    for (const RunningTicket& ticket : running(lane).tickets) next = std::min(next, ticket.deadline);
  }
  return next;
}

std::vector<FinishedTicket> EngineState::Abandon(TimePoint now, const Refusal& refusal) {
  std::vector<FinishedTicket> abandoned;
  for (const Lane lane : {Lane::kShort, Lane::kLong}) {
    for (std::unique_ptr<Ticket>& ticket : queue(lane).TakeAll())
      abandoned.push_back(Ended(now, std::move(ticket), refusal));
    for (const RunningTicket& ticket : running(lane).tickets) ticket.cancelled->Cancel();
  }
  return abandoned;
}

bool EngineState::idle() const {
  return short_queue_.empty() && long_queue_.empty() && !is_running(Lane::kShort) && !is_running(Lane::kLong);
}

bool EngineState::has_room_for_held_back() const {
  const double waiting_ns = short_queue_.held_back_ns() * short_admission_.correction() +
                            long_queue_.held_back_ns() * long_admission_.correction();
  return waiting_ns < static_cast<double>(options_.held_back_room_us) * 1e3;
}

}  // namespace headlight
