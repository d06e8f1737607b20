// SPDX-License-Identifier: Apache-2.0
#include "capacity/simulated_server.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iterator>
#include <utility>

#include "absl/status/status.h"

namespace headlight::capacity {
namespace {

std::chrono::nanoseconds Nanoseconds(double ns) { return std::chrono::nanoseconds(std::llround(ns)); }

void Append(std::vector<FinishedTicket> from, std::vector<FinishedTicket>& to) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

}  // namespace

TimePoint SimulatedServer::next_event() const {
  return std::min({short_run_.finish, long_run_.finish, ask_again_, engine_.next_deadline()});
}

void SimulatedServer::Advance(TimePoint now, std::vector<FinishedTicket>& ended) {
  Append(engine_.Expire(now), ended);
  if (short_run_.finish <= now) End(now, short_run_, ended);
  if (long_run_.finish <= now) End(now, long_run_, ended);
  Dispatch(now, ended);
}

std::optional<FinishedTicket> SimulatedServer::Submit(TimePoint now, std::unique_ptr<Ticket> ticket,
                                                      std::vector<FinishedTicket>& ended) {
  TicketHandle handle;
  std::optional<FinishedTicket> refused = engine_.Submit(now, std::move(ticket), handle);
  Dispatch(now, ended);
  return refused;
}

void SimulatedServer::Start(TimePoint now, Step step, Run& run) {
  run.batch = std::move(step.batch);
  run.takes_ns = batch_time_(run.batch);
  run.finish = now + Nanoseconds(run.takes_ns);
}

void SimulatedServer::End(TimePoint now, Run& run, std::vector<FinishedTicket>& ended) {
  busy_ns_ += run.takes_ns;
  Batch batch = std::move(run.batch);
  run = Run();
  Append(engine_.Complete(now, std::move(batch), absl::OkStatus()), ended);
}

void SimulatedServer::PauseLong(TimePoint now) {
  if (long_run_.finish == TimePoint::max()) return;
  long_run_.left_ns = std::chrono::duration<double, std::nano>(long_run_.finish - now).count();
  long_run_.finish = TimePoint::max();
}

void SimulatedServer::ResumeLong(TimePoint now) {
  if (long_run_.batch.tickets.empty() || long_run_.finish != TimePoint::max()) return;
  long_run_.finish = now + Nanoseconds(long_run_.left_ns);
}

// As Scheduler::DispatchLoop: the next long ticket is handed out first; it stands still while short ones run.
void SimulatedServer::Dispatch(TimePoint now, std::vector<FinishedTicket>& ended) {
  while (!engine_.is_running(Lane::kLong) && engine_.has_waiting(Lane::kLong)) {
    Step step = engine_.Take(now, Lane::kLong);
    Append(std::move(step.dropped), ended);
    if (step.batch.tickets.empty()) continue;
    Start(now, std::move(step), long_run_);
  }
  ask_again_ = TimePoint::max();
  while (!engine_.is_running(Lane::kShort) && engine_.has_waiting(Lane::kShort)) {
    Step step = engine_.Take(now, Lane::kShort);
    Append(std::move(step.dropped), ended);
    ask_again_ = step.ask_again;
    if (ask_again_ != TimePoint::max()) break;  // the long lane's turn
    if (!step.batch.tickets.empty()) Start(now, std::move(step), short_run_);
  }
  if (engine_.is_running(Lane::kShort)) {
    PauseLong(now);
  } else {
    ResumeLong(now);
  }
}

}  // namespace headlight::capacity
