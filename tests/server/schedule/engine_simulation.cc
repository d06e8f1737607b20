// SPDX-License-Identifier: Apache-2.0
#include "tests/server/schedule/engine_simulation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

#include "capacity/simulated_server.h"

namespace headlight::testing {
namespace {

constexpr int64_t kFewestTokens = 8;
constexpr int64_t kMostTokens = 256;
constexpr TimePoint kStart{std::chrono::hours(1)};

std::chrono::nanoseconds Nanoseconds(double ns) { return std::chrono::nanoseconds(std::llround(ns)); }

class SimulatedWork final : public Work {
 public:
  SimulatedWork(size_t stream, double real_ns) : stream(stream), real_ns(real_ns) {}
  const size_t stream;
  const double real_ns;  // alone
};

class Simulation {
 public:
  explicit Simulation(const Plan& plan) : plan_(plan), noise_(plan.seed + 1) {
    EngineOptions options = plan.engine;
    if (plan.noise > 0) {
      options.distort_prediction = [this] { return Uniform(noise_, 1 - plan_.noise, 1 + plan_.noise); };
    }
    server_ = std::make_unique<capacity::SimulatedServer>(
        options, /*has_long_lane=*/false, [this](const Batch& batch) { return BatchNs(batch); });
    server_->engine().cost_model().Introduce(0, plan.prior);
    served_.resize(plan.streams.size());
    for (size_t i = 0; i < plan.streams.size(); ++i) {
      random_.emplace_back(plan.seed + 1000 * i);
      next_arrival_.push_back(now_ + Gap(i));
    }
  }

  std::vector<Served> Run() {
    const TimePoint end = kStart + Nanoseconds(plan_.seconds * 1e9);
    while (now_ < end) {
      const auto arrival = std::min_element(next_arrival_.begin(), next_arrival_.end());
      now_ = std::min(*arrival, server_->next_event());
      if (server_->next_event() <= now_) {
        server_->Advance(now_, ended_);
      } else {
        const auto stream = static_cast<size_t>(arrival - next_arrival_.begin());
        Arrive(stream);
        *arrival = now_ + Gap(stream);
      }
      CountEnded();
    }
    for (Served& served : served_) {
      served.request_goodput = static_cast<double>(served.in_time) * MeanServiceNs() / (plan_.seconds * 1e9);
      served.work_goodput /= plan_.seconds * 1e9;
      for (double& window : served.window_goodput) window /= plan_.window_s * 1e9;
    }
    return std::move(served_);
  }

 private:
  static double Uniform(std::mt19937_64& random, double from, double to) {
    return std::uniform_real_distribution<double>(from, to)(random);
  }

  static double NsOf(TimePoint::duration duration) {
    return std::chrono::duration<double, std::nano>(duration).count();
  }

  std::chrono::nanoseconds Gap(size_t i) {
    const Stream& stream = plan_.streams[i];
    const double gap_ns = std::exponential_distribution<double>(1 / MeanServiceNs())(random_[i]);
    const double until_step_ns = NsOf(kStart + Nanoseconds(plan_.step_s * 1e9) - now_);
    if (stream.load_from_step < 0 || gap_ns / stream.load <= until_step_ns)
      return Nanoseconds(std::max(1.0, gap_ns / stream.load));
    // The part of the gap behind the step passes at the new rate.
    const double before_ns = std::max(0.0, until_step_ns);
    return Nanoseconds(std::max(1.0, before_ns + (gap_ns - before_ns * stream.load) / stream.load_from_step));
  }

  void Arrive(size_t i) {
    const Stream& stream = plan_.streams[i];
    auto ticket = std::make_unique<Ticket>();
    ticket->arrival = now_;
    if (stream.deadline_us > 0) ticket->deadline = now_ + std::chrono::microseconds(stream.deadline_us);
    ticket->caller = stream.caller;
    ticket->tokens = std::uniform_int_distribution<int64_t>(kFewestTokens, kMostTokens)(random_[i]);
    ticket->cost = CostOf(ticket->tokens);
    ticket->held_back = stream.held_back;
    ticket->cancelled = std::make_shared<CancellationToken>();
    ticket->work = std::make_unique<SimulatedWork>(i, RealNs(ticket->cost));
    ++served_[i].offered;
    if (server_->Submit(now_, std::move(ticket), ended_).has_value()) {
      ++served_[i].refused;
    } else {
      ++served_[i].admitted;
    }
  }

  double BatchNs(const Batch& batch) {
    WorkCost cost;
    for (const std::unique_ptr<Ticket>& ticket : batch.tickets) cost += ticket->cost;
    const double jitter = plan_.jitter > 0 ? Uniform(noise_, 1 - plan_.jitter, 1 + plan_.jitter) : 1;
    return RealNs(cost) * jitter * Slowness();
  }

  // Of the machine at this moment.
  double Slowness() {
    if (plan_.drift > 0 && now_ >= slowness_until_) {
      slowness_ = Uniform(noise_, 1 - plan_.drift, 1 + plan_.drift);
      slowness_until_ = now_ + Nanoseconds(std::exponential_distribution<double>(1 / 300e6)(noise_));
    }
    return slowness_;
  }

  void CountEnded() {
    const auto answered = std::find_if(ended_.begin(), ended_.end(),
                                       [](const FinishedTicket& ended) { return ended.outcome.status.ok(); });
    if (answered != ended_.end()) {  // they are of one batch
      work_begin_ = answered->ticket->arrival + std::chrono::microseconds(answered->outcome.queue_us);
    }
    for (const FinishedTicket& ended : std::exchange(ended_, {})) Count(ended);
  }

  void Count(const FinishedTicket& ended) {
    const auto& work = static_cast<const SimulatedWork&>(*ended.ticket->work);
    Served& served = served_[work.stream];
    if (!ended.outcome.status.ok()) {
      ++served.late;
      return;
    }
    ++served.in_time;
    served.work_goodput += work.real_ns;
    if (plan_.window_s <= 0) return;
    // Work belongs to the windows it was computed in; the tickets of a batch are taken to follow each other.
    double from_s = std::chrono::duration<double>(work_begin_ - kStart).count() - plan_.step_s;
    const double to_s = from_s + work.real_ns / 1e9;
    work_begin_ += Nanoseconds(work.real_ns);
    while (from_s < to_s) {
      const double window = std::floor(from_s / plan_.window_s + 1e-9);
      const double until_s = std::min(to_s, (window + 1) * plan_.window_s);
      if (window >= 0) {
        const auto index = static_cast<size_t>(window);
        if (served.window_goodput.size() <= index) served.window_goodput.resize(index + 1);
        served.window_goodput[index] += (until_s - from_s) * 1e9;
      }
      from_s = until_s + 1e-12;
    }
  }

  const Plan& plan_;
  std::vector<std::mt19937_64> random_;  // of each stream: the same arrivals whatever the others send
  std::mt19937_64 noise_;
  TimePoint now_ = kStart;
  double slowness_ = 1;
  TimePoint slowness_until_ = kStart;
  std::unique_ptr<capacity::SimulatedServer> server_;
  std::vector<TimePoint> next_arrival_;
  std::vector<FinishedTicket> ended_;
  TimePoint work_begin_;
  std::vector<Served> served_;
};

}  // namespace

WorkCost CostOf(int64_t tokens) {
  const auto count = static_cast<double>(tokens);
  return {.projection_flops = count * 1e6, .attention_flops = count * count * 1e3, .bytes = count * 4};
}

double RealNs(const WorkCost& cost) {
  return kTruth.fixed_ns + kTruth.ns_per_projection_flop * cost.projection_flops +
         kTruth.ns_per_attention_flop * cost.attention_flops;
}

double MeanServiceNs() {
  double sum_ns = 0;
  for (int64_t tokens = kFewestTokens; tokens <= kMostTokens; ++tokens) sum_ns += RealNs(CostOf(tokens));
  return sum_ns / (kMostTokens - kFewestTokens + 1);
}

std::vector<Served> Simulate(const Plan& plan) { return Simulation(plan).Run(); }

}  // namespace headlight::testing
