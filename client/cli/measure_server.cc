// SPDX-License-Identifier: Apache-2.0
#include "client/cli/measure_server.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "capacity/plan.h"
#include "client/cli/inputs.h"
#include "client/load/load_run.h"

namespace headlight::client {
namespace {

constexpr std::chrono::seconds kEstimateTime{5};  // of questions about costs
constexpr std::chrono::seconds kPatience{60};     // of requests that are measured
constexpr int64_t kFewTokens = 9;                 // as many more than 1 as tell what a token takes
constexpr int kMostConcurrency = 128;
constexpr int64_t kFewestReplies = 5;          // that a rate is made of
constexpr int64_t kSimulatedRequests = 5'000;  // of a closed loop, which settles within some hundred
constexpr size_t kKept = 1'000;                // of measured times, evenly spaced among the sorted ones
constexpr double kStrangerShare = 0.01;        // of replies to lone requests that came out of shared batches

double UsOf(std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e3; }

double MeanOf(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Of sorted values as many as are kept: their distribution is all that is used of them.
std::vector<double> Thinned(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  if (values.size() <= kKept) return values;
  std::vector<double> kept;
  for (size_t i = 0; i < kKept; ++i) kept.push_back(values[(2 * i + 1) * values.size() / (2 * kKept)]);
  return kept;
}

struct Reply {
  size_t request = 0;
  double round_trip_us = 0;
  ReplyFacts facts;

  double batch_us() const { return static_cast<double>(facts.pack_us + facts.compute_us + facts.unpack_us); }
  double outside_us() const {
    return std::max(0.0, round_trip_us - static_cast<double>(facts.queue_us) - batch_us());
  }
};

struct Observed {
  std::vector<Reply> replies;
  double rate = 0;
  int64_t refused = 0;
};

class Measurement {
 public:
  Measurement(const Client& client, const v1::Model& model, const RequestPool& pool,
              const MeasureOptions& options, const std::atomic<bool>& stop,
              const std::function<void(const LoadProgress&)>& on_progress)
      : client_(client),
        model_(model),
        pool_(pool),
        options_(options),
        stop_(stop),
        on_progress_(on_progress) {}

  absl::StatusOr<MeasuredServer> Run() {
    const absl::StatusOr<Observed> alone = Observe(1);
    if (!alone.ok()) return alone.status();
    // The server has learnt by now what such requests take, and estimates accordingly.
    if (absl::Status status = EstimateAll(); !status.ok()) return status;
    MeasuredServer measured;
    measured.busy_concurrency = Concurrency(*alone);
    const absl::StatusOr<Observed> busy = Observe(measured.busy_concurrency);
    if (!busy.ok()) return busy.status();
    measured.busy_rate = busy->rate;
    if (absl::Status status = Fit(*alone, *busy, measured); !status.ok()) return status;
    NoteDoubts(*alone, *busy, measured.notes);
    return measured;
  }

 private:
  absl::StatusOr<Observed> Observe(int concurrency) {
    const std::chrono::milliseconds duration = options_.duration / 2;
    Observed observed;
    LoadPlan plan{
        .channels = client_.channels(),
        .pool = pool_.requests,
        .mix = {.timeouts = {kPatience}, .seed = options_.seed},
        .concurrency = concurrency,
        .warmup = duration / 5,
        .duration = duration - duration / 5,
    };
    const LoadClock::time_point measure_from = LoadClock::now() + plan.warmup;
    plan.on_reply = [&](size_t request, std::chrono::nanoseconds round_trip, const ReplyFacts& facts) {
      if (LoadClock::now() >= measure_from) observed.replies.push_back({request, UsOf(round_trip), facts});
    };
    const LoadResult result = RunLoad(plan, stop_, on_progress_);
    if (stop_) return absl::CancelledError("interrupted before the server was measured");
    observed.refused = result.refused();
    if (observed.replies.empty()) {
      const std::string why =
          result.refusals.empty() ? "none ended" : result.refusals.begin()->second.example;
      return absl::FailedPreconditionError(absl::StrCat("the server answered none of ", result.sent,
                                                        " requests with ", concurrency, " in flight: ", why));
    }
    if (result.replies_in_window < kFewestReplies) {
      return absl::FailedPreconditionError(absl::StrCat("the server answered ", result.replies_in_window,
                                                        " requests with ", concurrency, " in flight within ",
                                                        plan.duration.count(), " ms, wanted at least ",
                                                        kFewestReplies, ": measure for longer (--measure)"));
    }
    observed.rate = static_cast<double>(result.replies_in_window) / (UsOf(result.measured) / 1e6);
    return observed;
  }

  absl::StatusOr<double> EstimateUs(const RequestFlags& flags) const {
    const auto estimate = client_.EstimateCost(DescribeRandomInputs(flags, model_), kEstimateTime);
    if (!estimate.ok()) return estimate.status();
    return static_cast<double>(estimate->compute_us());
  }

  // What each request adds to a batch, as the server estimates it: its time less that of one without tokens.
  absl::Status EstimateAll() {
    RequestFlags few{.model = model_.name(), .model_version = model_.version(), .seq_lens = {1}};
    const absl::StatusOr<double> one_us = EstimateUs(few);
    if (!one_us.ok()) return one_us.status();
    few.seq_lens = {kFewTokens};
    const absl::StatusOr<double> few_us = EstimateUs(few);
    if (!few_us.ok()) return few_us.status();
    const double token_us = std::max(0.0, (*few_us - *one_us) / static_cast<double>(kFewTokens - 1));
    const double fixed_us = std::max(0.0, *one_us - token_us);
    for (const RequestFlags& flags : pool_.flags) {
      const absl::StatusOr<double> us = EstimateUs(flags);
      if (!us.ok()) return us.status();
      estimates_us_.push_back(std::max(1.0, *us - fixed_us));
    }
    return absl::OkStatus();
  }

  // Callers enough that a batch is always waiting while another one is computed.
  int Concurrency(const Observed& alone) const {
    double sum_us = 0;
    for (const Reply& reply : alone.replies) sum_us += reply.batch_us();
    const double mean_us = std::max(1.0, sum_us / static_cast<double>(alone.replies.size()));
    const double batch = std::ceil(static_cast<double>(options_.scheduler.batch_budget_us) / mean_us);
    return std::clamp(static_cast<int>(2 * batch) + 2, 4, kMostConcurrency);
  }

  // What the server would have estimated of the reply's batch: of the others in it tokens alone are known.
  double BatchEstimateUs(const Reply& reply) const {
    const double own_us = estimates_us_[reply.request];
    const auto others = static_cast<double>(
        std::max<int64_t>(0, reply.facts.batch_tokens - pool_.requests[reply.request].tokens));
    return own_us + others * MeanOf(estimates_us_) / std::max(1.0, pool_.mean_tokens);
  }

  absl::Status Fit(const Observed& alone, const Observed& busy, MeasuredServer& measured) const {
    std::vector<capacity::Sample> samples;
    for (const Observed* observed : {&alone, &busy}) {
      for (const Reply& reply : observed->replies) {
        if (reply.batch_us() <= 0 || reply.facts.batch_requests <= 0)
          continue;  // from before budgets were told
        samples.push_back({.estimate_us = BatchEstimateUs(reply),
                           .real_us = reply.batch_us(),
                           .batch_requests = reply.facts.batch_requests});
      }
    }
    absl::StatusOr<capacity::Fit> fit = capacity::FitTimes(samples);
    if (!fit.ok()) return fit.status();
    std::vector<double> outside_us, round_trips_us;
    for (const Reply& reply : alone.replies) {
      outside_us.push_back(reply.outside_us());
      round_trips_us.push_back(reply.round_trip_us);
    }
    std::sort(round_trips_us.begin(), round_trips_us.end());
    measured.alone_us = round_trips_us[round_trips_us.size() / 2];
    capacity::ServerProfile& profile = measured.profile;
    profile.options = options_.scheduler;
    profile.fixed_us = fit->fixed_us;
    profile.scatter = Thinned(std::move(fit->scatter));
    profile.outside_us = Thinned(std::move(outside_us));
    for (size_t i = 0; i < pool_.requests.size(); ++i) {
      measured.requests.push_back({fit->scale * estimates_us_[i], pool_.requests[i].tokens});
    }
    profile.overhead_us = capacity::FitOverheadUs(
        profile, {.requests = measured.requests, .count = kSimulatedRequests, .seed = options_.seed},
        measured.busy_concurrency, measured.busy_rate);
    // What a busy server's compute threads lose by receiving and answering, a lone caller waits for already.
    for (double& us : profile.outside_us) us = std::max(0.0, us - profile.overhead_us);
    return absl::OkStatus();
  }

  static void NoteDoubts(const Observed& alone, const Observed& busy, std::vector<std::string>& notes) {
    const auto shared = std::count_if(alone.replies.begin(), alone.replies.end(),
                                      [](const Reply& reply) { return reply.facts.batch_requests > 1; });
    if (static_cast<double>(shared) > kStrangerShare * static_cast<double>(alone.replies.size())) {
      notes.push_back("the server computed for others meanwhile: measure one that has nothing else to do");
    }
    if (const int64_t refused = alone.refused + busy.refused; refused > 0) {
      notes.push_back(absl::StrCat("the server refused ", refused, " requests while it was measured"));
    }
  }

  const Client& client_;
  const v1::Model& model_;
  const RequestPool& pool_;
  const MeasureOptions& options_;
  const std::atomic<bool>& stop_;
  const std::function<void(const LoadProgress&)>& on_progress_;
  std::vector<double> estimates_us_;  // of each request of the pool: what it adds to a batch
};

}  // namespace

absl::StatusOr<MeasuredServer> MeasureServer(const Client& client, const v1::Model& model,
                                             const RequestPool& pool, const MeasureOptions& options,
                                             const std::atomic<bool>& stop,
                                             const std::function<void(const LoadProgress&)>& on_progress) {
  return Measurement(client, model, pool, options, stop, on_progress).Run();
}

}  // namespace headlight::client
