// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/scheduler.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "absl/status/status.h"

namespace headlight {
namespace {

Refusal Draining() { return {absl::UnavailableError("the server is shutting down"), kReasonDraining}; }

// Waits for a notification, or until `clock` shows `until`.
void WaitUntil(std::condition_variable& condition, std::unique_lock<std::mutex>& lock, const Clock& clock,
               TimePoint until) {
  if (until == TimePoint::max()) {
    condition.wait(lock);
  } else {
    condition.wait_for(lock, until - clock.Now());
  }
}

// How long what runs long stands still for the answers of what was computed meanwhile: its threads have every
// core, and an answer that waits for one of them waits for milliseconds.
constexpr std::chrono::milliseconds kTimeToAnswer{1};

// Of one batch, as EngineState::Complete gives it back.
BatchFacts FactsOf(const std::vector<FinishedTicket>& batch) {
  BatchFacts facts;
  for (const auto& [ticket, outcome] : batch) {
    const int64_t shared_ns = facts.requests == 0 ? 0 : ticket->fixed_ns;
    ++facts.requests;
    facts.tokens += ticket->tokens;
    facts.flops += ticket->cost.projection_flops + ticket->cost.attention_flops;
    facts.predicted_ns += std::max<int64_t>(0, ticket->predicted_ns - shared_ns);
    facts.real_ns = outcome.compute_us * 1000;
    facts.whole &= outcome.status.ok();
  }
  return facts;
}

}  // namespace

Scheduler::Scheduler(const EngineOptions& options, BatchRunner& runner, PausableRunner* long_runner,
                     const Clock& clock, BatchObserver* observer)
    : clock_(clock),
      runner_(runner),
      long_runner_(long_runner),
      observer_(observer),
      state_(options, long_runner != nullptr) {
  dispatcher_ = std::thread([this] { DispatchLoop(); });
  if (long_runner_ != nullptr) long_lane_ = std::thread([this] { LongLoop(); });
  answerer_ = std::thread([this] { AnswerLoop(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(mutex_);
    accepting_ = false;
    stopping_ = true;
    Deliver(state_.Abandon(clock_.Now(), Draining()));
  }
  work_available_.notify_one();
  long_available_.notify_one();
  dispatcher_.join();
  if (long_lane_.joinable()) long_lane_.join();
  {
    const std::lock_guard lock(mutex_);
    answering_ = false;
  }
  answers_waiting_.notify_one();
  answerer_.join();
}

TicketHandle Scheduler::Submit(std::unique_ptr<Ticket> ticket) {
  TicketHandle handle;
  std::optional<FinishedTicket> refused;
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (!accepting_) {
      Refusal refusal = Draining();
      refused = FinishedTicket{std::move(ticket), {std::move(refusal.status), std::move(refusal.reason)}};
    } else {
      wake = state_.idle();
      const bool others_wait = state_.has_waiting(Lane::kShort);
      refused = state_.Submit(clock_.Now(), std::move(ticket), handle);
      if (!refused.has_value()) {
        ++unfinished_;
        if (state_.next_deadline() < answerer_looks_at_) answers_waiting_.notify_one();
        if (!others_wait && state_.has_waiting(Lane::kShort)) BeginLongPause();
      }
    }
  }
  if (refused.has_value()) {
    Finish(std::move(refused->ticket), std::move(refused->outcome));
    return handle;
  }
  work_available_.notify_one();
  if (wake) runner_.Wake();
  return handle;
}

bool Scheduler::Cancel(TicketHandle handle) {
  bool known = false;
  std::optional<FinishedTicket> cancelled;
  {
    const std::lock_guard lock(mutex_);
    cancelled = state_.Cancel(clock_.Now(), handle, known);
  }
  if (!cancelled.has_value()) return known;
  Finish(std::move(cancelled->ticket), std::move(cancelled->outcome));
  const std::lock_guard lock(mutex_);
  Answered(1);
  if (!rooms_.empty()) answers_waiting_.notify_one();
  return true;
}

void Scheduler::StopAccepting() {
  {
    const std::lock_guard lock(mutex_);
    accepting_ = false;
  }
  answers_waiting_.notify_one();  // it calls those who wait for room
}

void Scheduler::Drain() {
  StopAccepting();
  WaitUntilIdle();
}

void Scheduler::WaitUntilIdle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return unfinished_ == 0; });
}

int64_t Scheduler::num_unfinished() const {
  const std::lock_guard lock(mutex_);
  return unfinished_;
}

Backlog Scheduler::GetBacklog() const {
  const std::lock_guard lock(mutex_);
  return state_.GetBacklog(clock_.Now());
}

std::optional<Refusal> Scheduler::DecideFromHeaders(TimePoint deadline, const Caller& caller) const {
  const std::lock_guard lock(mutex_);
  if (!accepting_) return Draining();
  return state_.DecideFromHeaders(clock_.Now(), deadline, caller);
}

void Scheduler::Introduce(uint64_t cost_class, const CostPrior& prior) {
  const std::lock_guard lock(mutex_);
  state_.cost_model().Introduce(cost_class, prior);
}

Estimate Scheduler::EstimateTicket(const Ticket& ticket) const {
  const std::lock_guard lock(mutex_);
  Estimate estimate = state_.EstimateTicket(clock_.Now(), ticket);
  if (!accepting_) estimate.refusal = Draining();
  return estimate;
}

void Scheduler::WhenRoom(std::function<void()> room) {
  {
    const std::lock_guard lock(mutex_);
    if (accepting_ && (!rooms_.empty() || !state_.has_room_for_held_back())) {
      rooms_.push_back(std::move(room));
      return;
    }
  }
  room();
}

void Scheduler::DispatchLoop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    StartLong();
    Step step = state_.Take(clock_.Now(), Lane::kShort);
    Deliver(std::move(step.dropped));
    if (step.batch.tickets.empty()) {
      if (state_.has_waiting(Lane::kShort) && step.ask_again == TimePoint::max())
        continue;  // only dead ones so far
      if (long_paused_) {
        if (!WaitForAnswers(lock)) EndLongPause();
        continue;  // what came meanwhile has been told, and is not told again
      }
      WaitUntil(work_available_, lock, clock_, step.ask_again);
      continue;
    }
    GiveRoom(step.batch);
    BeginLongPause();
    const bool pause = long_paused_;
    lock.unlock();
    if (pause) long_runner_->Pause();
    const absl::Status status = runner_.Run(step.batch.tickets);
    lock.lock();
    Completed(lock, std::move(step.batch), status);
  }
  EndLongPause();
}

void Scheduler::BeginLongPause() {
  if (!state_.is_running(Lane::kLong)) return;
  long_paused_ = true;
  long_runner_->BeginPause();
}

void Scheduler::EndLongPause() {
  if (std::exchange(long_paused_, false)) long_runner_->Resume();
}

bool Scheduler::WaitForAnswers(std::unique_lock<std::mutex>& lock) {
  if (state_.has_waiting(Lane::kShort)) return false;  // it is the long ones' turn
  const auto more_work = [this] { return stopping_ || state_.has_waiting(Lane::kShort); };
  work_available_.wait_for(lock, kTimeToAnswer,
                           [&] { return more_work() || (finished_.empty() && answering_now_ == 0); });
  return more_work();
}

void Scheduler::StartLong() {
  while (!state_.is_running(Lane::kLong) && state_.has_waiting(Lane::kLong)) {
    Step step = state_.Take(clock_.Now(), Lane::kLong);
    Deliver(std::move(step.dropped));
    if (step.batch.tickets.empty()) continue;
    GiveRoom(step.batch);
    long_batch_ = std::move(step.batch);
    long_available_.notify_one();
    answers_waiting_.notify_one();  // it watches the deadline
  }
}

void Scheduler::LongLoop() {
  std::unique_lock lock(mutex_);
  while (true) {
    long_available_.wait(lock, [this] { return stopping_ || long_batch_.has_value(); });
    if (!long_batch_.has_value()) return;
    Batch batch = *std::move(long_batch_);
    long_batch_.reset();
    lock.unlock();
    const absl::Status status = long_runner_->Run(batch.tickets);
    lock.lock();
    Completed(lock, std::move(batch), status);
    work_available_.notify_one();  // the next long one, and the short lane need not share any more
  }
}

void Scheduler::AnswerLoop() {
  std::unique_lock lock(mutex_);
  while (true) {
    Deliver(state_.Expire(clock_.Now()));
    // With nobody held back in line, nobody will leave it to give room to those who wait for it.
    if (!accepting_ || (!rooms_.empty() && state_.num_held_back() == 0)) {
      std::move(rooms_.begin(), rooms_.end(), std::back_inserter(ready_rooms_));
      rooms_.clear();
    }
    if (finished_.empty() && ready_rooms_.empty()) {
      if (!answering_) return;
      answerer_looks_at_ = state_.next_deadline();
      WaitUntil(answers_waiting_, lock, clock_, answerer_looks_at_);
      continue;
    }
    std::vector<FinishedTicket> finished = std::exchange(finished_, {});
    std::vector<std::function<void()>> rooms = std::exchange(ready_rooms_, {});
    const auto num_finished = static_cast<int64_t>(finished.size());
    answering_now_ += num_finished;
    lock.unlock();
    for (FinishedTicket& end : finished) Finish(std::move(end.ticket), std::move(end.outcome));
    for (const std::function<void()>& room : rooms) room();
    lock.lock();
    answering_now_ -= num_finished;
    if (long_paused_) work_available_.notify_one();
    Answered(num_finished);
  }
}

void Scheduler::Deliver(std::vector<FinishedTicket> finished) {
  if (finished.empty()) return;
  if (finished_.empty()) {
    finished_ = std::move(finished);
  } else {
    std::move(finished.begin(), finished.end(), std::back_inserter(finished_));
  }
  answers_waiting_.notify_one();
}

void Scheduler::Completed(std::unique_lock<std::mutex>& lock, Batch batch, const absl::Status& status) {
  std::vector<FinishedTicket> finished = state_.Complete(clock_.Now(), std::move(batch), status);
  const BatchFacts facts = observer_ == nullptr ? BatchFacts() : FactsOf(finished);
  Deliver(std::move(finished));
  if (observer_ == nullptr) return;
  lock.unlock();
  observer_->BatchEnded(facts);
  lock.lock();
}

void Scheduler::GiveRoom(const Batch& batch) {
  if (rooms_.empty() || !state_.has_room_for_held_back()) return;
  // One for each that has left and one more; if none is left in line, nobody else will come to call the
  // others.
  const auto is_held_back = [](const std::unique_ptr<Ticket>& ticket) { return ticket->held_back; };
  size_t num_rooms = 1 + std::count_if(batch.tickets.begin(), batch.tickets.end(), is_held_back);
  if (state_.GetBacklog(clock_.Now()).num_held_back == 0) num_rooms = rooms_.size();
  for (; num_rooms > 0 && !rooms_.empty(); --num_rooms) {
    ready_rooms_.push_back(std::move(rooms_.front()));
    rooms_.pop_front();
  }
  answers_waiting_.notify_one();
}

void Scheduler::Answered(int64_t num_tickets) {
  unfinished_ -= num_tickets;
  if (unfinished_ == 0) idle_.notify_all();
}

}  // namespace headlight
