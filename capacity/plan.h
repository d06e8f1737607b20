// SPDX-License-Identifier: Apache-2.0
//
// How many servers a load takes: fleets of growing size, simulated until one meets the goal.
#ifndef HEADLIGHT_CAPACITY_PLAN_H_
#define HEADLIGHT_CAPACITY_PLAN_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "capacity/fleet.h"
#include "capacity/profile.h"

namespace headlight::capacity {

struct Goal {
  double percent = 99;  // of all requests offered
  double limit_us = 0;  // are answered within this
};

struct FleetSize {
  int replicas = 0;
  FleetLoad load;
  bool meets_goal = false;
};

struct Plan {
  std::vector<FleetSize> sizes;  // simulated, by growing size, from what the mean load fills to one more than
                                 // what is needed, or than max_replicas
  std::optional<int>
      replicas;  // the fewest that meet the goal, and so does one more; none: max_replicas do not
};

// FAILED_PRECONDITION: no number of servers would do, because a lone request on an idle one takes longer.
absl::StatusOr<Plan> PlanFleet(const ServerProfile& server, const Traffic& traffic, const Goal& goal,
                               Balancing balancing, int max_replicas);

// The overhead_us with which `server` in a closed loop answers as many requests a second as the measured one
// did: what compute times leave out. 0 where it did better.
double FitOverheadUs(ServerProfile server, const Traffic& traffic, int concurrency, double measured_rate);

}  // namespace headlight::capacity

#endif  // HEADLIGHT_CAPACITY_PLAN_H_
