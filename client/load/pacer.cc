// SPDX-License-Identifier: Apache-2.0
#include "client/load/pacer.h"

#include <algorithm>

namespace headlight::client {

Pacer::Pacer(const ArrivalPlan& plan, const RequestMix& mix, int thread, int num_threads)
    : plan_(plan),
      mix_(mix),
      thread_(thread),
      num_threads_(num_threads),
      times_(plan.arrivals, plan.rate, plan.seed, plan.rate_steps) {
  Advance();
}

void Pacer::Advance() {
  // Every thread draws the whole sequence, which costs nanoseconds, so that it does not depend on their
  // number.
  arrival_.reset();
  for (;;) {
    const LoadClock::time_point at = plan_.start + times_.Next();
    const int64_t number = next_number_++;
    if (at >= plan_.window.end) return;
    if (at >= plan_.window.begin && plan_.count > 0 && measured_++ >= plan_.count) return;
    if (number % num_threads_ != thread_) continue;
    arrival_ = Arrival{.number = number, .at = at, .choice = mix_.Choose(number)};
    return;
  }
}

Pacer::Step Pacer::Next(LoadClock::time_point now, bool has_room) {
  if (!arrival_) return {.action = Action::kEnd};
  Step step{
      .action = Action::kWait, .number = arrival_->number, .at = arrival_->at, .choice = arrival_->choice};
  if (now < step.at) return step;
  const LoadClock::time_point deadline = step.at + step.choice.timeout;
  if (now >= deadline) {
    step.action = Action::kDrop;
  } else if (has_room) {
    step.action = Action::kSend;
  } else {
    step.at = deadline;
    return step;
  }
  Advance();
  return step;
}

}  // namespace headlight::client
