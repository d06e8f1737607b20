// SPDX-License-Identifier: Apache-2.0
#include "capacity/fleet.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <queue>
#include <utility>

#include "capacity/simulated_server.h"
#include "core/runtime/cancellation.h"

namespace headlight::capacity {
namespace {

using std::chrono::nanoseconds;

constexpr TimePoint kStart{std::chrono::hours(1)};
constexpr uint64_t kCostClass = 1;
constexpr double kPauseAfterRefusalUs = 2'000;  // of a caller in a closed loop, as a load test's
// What is drawn for a request, or for the batch that it is first of.
enum class Draw : uint64_t { kGap, kRequest, kTimeout, kOutside, kReplica, kScatter };

// splitmix64: a number's random bits, whoever asks and when.
uint64_t RandomBits(uint64_t seed, int64_t number, Draw draw) {
  uint64_t bits = seed * 0x9e3779b97f4a7c15 + static_cast<uint64_t>(number) * 8 + static_cast<uint64_t>(draw);
  for (int round = 0; round < 2; ++round) {  // neighbouring seeds and numbers come apart in the second one
    bits += 0x9e3779b97f4a7c15;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
    bits ^= bits >> 31;
  }
  return bits;
}

nanoseconds Microseconds(double us) { return nanoseconds(std::llround(us * 1e3)); }
double UsOf(TimePoint::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

EngineOptions EngineOptionsOf(const SchedulerOptions& options) {
  EngineOptions engine;
  engine.batch_budget_us = options.batch_budget_us;
  engine.max_batch_tokens = options.max_batch_tokens;
  engine.queue_max_requests = options.queue_max_requests;
  engine.max_age_us = options.max_age_ms * 1000;
  engine.long_run_us = kLongRunBudgets * options.batch_budget_us;
  return engine;
}

struct SimulatedWork final : Work {
  int64_t number = 0;
  size_t replica = 0;
  double outside_us = 0;
  double timeout_us = 0;
};

class Simulation {
 public:
  Simulation(const ServerProfile& profile, const Traffic& traffic, int replicas, Balancing balancing)
      : profile_(profile),
        traffic_(traffic),
        balancing_(balancing),
        under_way_(static_cast<size_t>(replicas)) {
    for (int i = 0; i < replicas; ++i) {
      servers_.push_back(
          std::make_unique<SimulatedServer>(EngineOptionsOf(profile.options), /*has_long_lane=*/true,
                                            [this](const Batch& batch) { return BatchNs(batch); }));
      // In the model's units: one projection operation is a microsecond of work.
      servers_.back()->engine().cost_model().Introduce(kCostClass,
                                                       {.ns_per_projection_flop = 1e3,
                                                        .ns_per_attention_flop = 1,
                                                        .ns_per_byte = 1,
                                                        .fixed_ns = 1e3 * std::max(1.0, profile.fixed_us)});
    }
    num_warmup_ = traffic.count / 10;
  }

  FleetLoad OpenLoop() {
    double at_s = 0;
    TimePoint next = kStart;
    int64_t number = 0;
    const int64_t end = num_warmup_ + traffic_.count;
    while (number < end || num_under_way_ > 0) {
      const TimePoint arrival = number < end ? next : TimePoint::max();
      AdvanceTo(std::min(arrival, NextEvent()));
      if (now_ != arrival) continue;
      Send(number++);
      const uint64_t bits = RandomBits(traffic_.seed, number, Draw::kGap);
      at_s -= std::log((static_cast<double>(bits >> 11) + 1) * 0x1p-53) / traffic_.rate;
      next = kStart + Microseconds(at_s * 1e6);
    }
    return Result();
  }

  double ClosedLoop(int concurrency) {
    // When callers are free to send the next one.
    std::priority_queue<TimePoint, std::vector<TimePoint>, std::greater<>> free;
    for (int i = 0; i < concurrency; ++i) free.push(kStart);
    on_end_ = [&](double pause_us) { free.push(now_ + Microseconds(pause_us)); };
    int64_t number = 0;
    TimePoint begin = kStart;
    int64_t answered_by_begin = 0;
    while (num_answered_ < num_warmup_ + traffic_.count) {
      const TimePoint arrival = free.empty() ? TimePoint::max() : free.top();
      AdvanceTo(std::min(arrival, NextEvent()));
      if (answered_by_begin < num_warmup_ && num_answered_ >= num_warmup_) {
        begin = now_;
        answered_by_begin = num_answered_;
      }
      if (now_ != arrival) continue;
      free.pop();
      Send(number++);
    }
    return static_cast<double>(num_answered_ - answered_by_begin) / (1e-6 * UsOf(now_ - begin));
  }

 private:
  uint64_t Bits(int64_t number, Draw draw) const { return RandomBits(traffic_.seed, number, draw); }

  template <typename T>
  const T& Choose(const std::vector<T>& values, int64_t number, Draw draw) const {
    return values[Bits(number, draw) % values.size()];
  }

  TimePoint NextEvent() const {
    TimePoint next = TimePoint::max();
    for (const auto& server : servers_) next = std::min(next, server->next_event());
    return next;
  }

  void AdvanceTo(TimePoint now) {
    now_ = now;
    for (const auto& server : servers_) {
      if (server->next_event() > now) continue;
      server->Advance(now, ended_);
      CountEnded();
    }
  }

  double BatchNs(const Batch& batch) const {
    double us = profile_.fixed_us;
    for (const std::unique_ptr<Ticket>& ticket : batch.tickets)
      us += ticket->cost.projection_flops + profile_.overhead_us;
    const int64_t first = static_cast<const SimulatedWork&>(*batch.tickets.front()->work).number;
    return std::max(1.0, us * 1e3 * Choose(profile_.scatter, first, Draw::kScatter));
  }

  size_t Replica(int64_t number) const {
    switch (balancing_) {
      case Balancing::kRandom:
        return Bits(number, Draw::kReplica) % servers_.size();
      case Balancing::kRoundRobin:
        return static_cast<size_t>(number) % servers_.size();
      case Balancing::kLeastLoaded:
        break;
    }
    size_t best = static_cast<size_t>(number) % servers_.size();  // of equal ones, each in turn
    for (size_t i = 0; i < servers_.size(); ++i) {
      if (under_way_[i] < under_way_[best]) best = i;
    }
    return best;
  }

  void Send(int64_t number) {
    if (number == num_warmup_) BeginToCount();
    const Request& request = Choose(traffic_.requests, number, Draw::kRequest);
    auto work = std::make_unique<SimulatedWork>();
    work->number = number;
    work->replica = Replica(number);
    work->outside_us = Choose(profile_.outside_us, number, Draw::kOutside);
    work->timeout_us = std::numeric_limits<double>::infinity();
    auto ticket = std::make_unique<Ticket>();
    ticket->arrival = now_;
    if (!traffic_.timeouts_ms.empty()) {
      const int64_t timeout_ms = Choose(traffic_.timeouts_ms, number, Draw::kTimeout);
      work->timeout_us = 1e3 * static_cast<double>(timeout_ms);
      ticket->deadline = After(now_, timeout_ms * 1000);
    }
    ticket->cost.projection_flops = request.work_us;
    ticket->tokens = request.tokens;
    ticket->cost_class = kCostClass;
    ticket->cancelled = std::make_shared<CancellationToken>();
    ++under_way_[work->replica];
    ++num_under_way_;
    SimulatedServer& server = *servers_[work->replica];
    ticket->work = std::move(work);
    if (number >= num_warmup_) ++load_.offered;
    if (std::optional<FinishedTicket> refused = server.Submit(now_, std::move(ticket), ended_)) {
      Count(*refused, /*admitted=*/false);
    }
    CountEnded();
  }

  void BeginToCount() {
    counted_from_ = now_;
    for (const auto& server : servers_) busy_before_ns_ += server->busy_ns();
  }

  void CountEnded() {
    for (const FinishedTicket& ended : std::exchange(ended_, {})) Count(ended, /*admitted=*/true);
  }

  void Count(const FinishedTicket& ended, bool admitted) {
    const auto& work = static_cast<const SimulatedWork&>(*ended.ticket->work);
    --under_way_[work.replica];
    --num_under_way_;
    if (admitted) ++num_answered_;
    if (on_end_) on_end_(work.outside_us + (admitted ? 0 : kPauseAfterRefusalUs));
    if (work.number < num_warmup_) return;
    const double latency_us = UsOf(now_ - ended.ticket->arrival) + work.outside_us;
    if (!admitted) {
      ++load_.refused;
    } else if (!ended.outcome.status.ok() || latency_us > work.timeout_us) {
      ++load_.late;
    } else {
      ++load_.answered;
      load_.latency_us.push_back(latency_us);
    }
  }

  FleetLoad Result() {
    double busy_ns = -busy_before_ns_;
    for (const auto& server : servers_) busy_ns += server->busy_ns();
    load_.seconds = 1e-6 * UsOf(now_ - counted_from_);
    load_.utilization = busy_ns * 1e-9 / load_.seconds / static_cast<double>(servers_.size());
    std::sort(load_.latency_us.begin(), load_.latency_us.end());
    return std::move(load_);
  }

  const ServerProfile& profile_;
  const Traffic& traffic_;
  const Balancing balancing_;
  std::vector<std::unique_ptr<SimulatedServer>> servers_;
  std::vector<int64_t> under_way_;  // of each server
  std::vector<FinishedTicket> ended_;
  std::function<void(double pause_us)> on_end_;  // of a closed loop: its caller is free so much later
  int64_t num_under_way_ = 0;
  int64_t num_answered_ = 0;  // admitted, and ended
  int64_t num_warmup_ = 0;
  TimePoint now_ = kStart;
  TimePoint counted_from_ = kStart;
  double busy_before_ns_ = 0;
  FleetLoad load_;
};

}  // namespace

double FleetLoad::PercentileUs(double percent) const {
  const double share = percent / 100 * (1 - 1e-12);  // 99 % of 100 is rank 99
  const auto rank =
      std::max<int64_t>(1, static_cast<int64_t>(std::ceil(share * static_cast<double>(offered))));
  if (rank > answered) return std::numeric_limits<double>::infinity();
  return latency_us[static_cast<size_t>(rank - 1)];
}

FleetLoad SimulateFleet(const ServerProfile& server, const Traffic& traffic, int replicas,
                        Balancing balancing) {
  return Simulation(server, traffic, replicas, balancing).OpenLoop();
}

double SimulateClosedLoop(const ServerProfile& server, const Traffic& traffic, int concurrency) {
  Traffic patient = traffic;
  patient.timeouts_ms.clear();
  return Simulation(server, patient, 1, Balancing::kRoundRobin).ClosedLoop(concurrency);
}

}  // namespace headlight::capacity
