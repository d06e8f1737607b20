// SPDX-License-Identifier: Apache-2.0
#include "capacity/plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace headlight::capacity {
namespace {

constexpr int kOverheadRounds = 4;  // fewer requests fit into a batch the more each takes
// At which nobody meets anybody, not even the few that a high percentile is about; and the time, of what a clock
// can tell, that this may take.
constexpr double kLoneLoad = 1e-6;
constexpr double kLongestS = 4e9;

double MeanWorkUs(const std::vector<Request>& requests) {
  double sum = 0;
  for (const Request& request : requests) sum += request.work_us;
  return sum / static_cast<double>(requests.size());
}

// A server cannot do with less of its time than what requests take in ever larger batches. Those that the goal
// does not count may be refused, which takes none, and may be the dearest.
int FewestThinkable(const ServerProfile& server, const Traffic& traffic, const Goal& goal) {
  std::vector<double> work_us;
  for (const Request& request : traffic.requests) work_us.push_back(request.work_us);
  std::sort(work_us.begin(), work_us.end());
  const double share = goal.percent / 100, count = static_cast<double>(work_us.size());
  double counted_us = 0, left = share * count;
  for (const double us : work_us) {
    counted_us += us * std::clamp(left, 0.0, 1.0);
    --left;
  }
  const double load = traffic.rate * 1e-6 * (counted_us / count + share * server.overhead_us);
  return std::max(1, static_cast<int>(std::floor(std::min(load, 1e6))));
}

FleetSize Simulated(const ServerProfile& server, const Traffic& traffic, const Goal& goal,
                    Balancing balancing, int replicas) {
  FleetSize size{.replicas = replicas, .load = SimulateFleet(server, traffic, replicas, balancing)};
  size.meets_goal = size.load.PercentileUs(goal.percent) <= goal.limit_us;
  return size;
}

absl::Status CheckThinkable(const ServerProfile& server, const Traffic& traffic, const Goal& goal) {
  Traffic lone = traffic;
  lone.count = std::min<int64_t>(traffic.count, 10'000);
  lone.rate =
      std::max(kLoneLoad * 1e6 / (server.fixed_us + server.overhead_us + MeanWorkUs(traffic.requests)),
               static_cast<double>(lone.count) / kLongestS);
  const double us = SimulateFleet(server, lone, 1, Balancing::kRoundRobin).PercentileUs(goal.percent);
  if (us <= goal.limit_us) return absl::OkStatus();
  const std::string why = std::isinf(us)
                              ? "so many are refused or late, as their timeouts are shorter than they take"
                              : absl::StrFormat("it takes %g ms", us / 1e3);
  return absl::FailedPreconditionError(
      absl::StrFormat("no number of replicas keeps %g %% of requests within %g ms: on an idle server %s",
                      goal.percent, goal.limit_us / 1e3, why));
}

}  // namespace

absl::StatusOr<Plan> PlanFleet(const ServerProfile& server, const Traffic& traffic, const Goal& goal,
                               Balancing balancing, int max_replicas) {
  if (absl::Status status = CheckThinkable(server, traffic, goal); !status.ok()) return status;
  Plan plan;
  // The last one only confirms.
  for (int replicas = FewestThinkable(server, traffic, goal); replicas <= max_replicas + 1; ++replicas) {
    plan.sizes.push_back(Simulated(server, traffic, goal, balancing, replicas));
    // Two in a row: one alone may have been lucky at the edge.
    const bool before = plan.sizes.size() > 1 && plan.sizes[plan.sizes.size() - 2].meets_goal;
    if (!plan.sizes.back().meets_goal || !before) continue;
    plan.replicas = replicas - 1;
    break;
  }
  return plan;
}

double FitOverheadUs(ServerProfile server, const Traffic& traffic, int concurrency, double measured_rate) {
  server.overhead_us = 0;
  for (int round = 0; round < kOverheadRounds; ++round) {
    const double simulated_rate = SimulateClosedLoop(server, traffic, concurrency);
    server.overhead_us = std::max(0.0, server.overhead_us + 1e6 / measured_rate - 1e6 / simulated_rate);
  }
  return server.overhead_us;
}

}  // namespace headlight::capacity
