// SPDX-License-Identifier: Apache-2.0
//
// A fleet of equal servers under a load, in simulated time: what comes back when. Knows nothing of goals.
#ifndef HEADLIGHT_CAPACITY_FLEET_H_
#define HEADLIGHT_CAPACITY_FLEET_H_

#include <cstdint>
#include <vector>

#include "capacity/profile.h"

namespace headlight::capacity {

// Who gets the next request.
enum class Balancing {
  kRandom,       // any, alike: many callers, each by itself
  kRoundRobin,   // the next one: one caller, or a balancer
  kLeastLoaded,  // the one with the fewest requests under way, seen from one place
};

struct Traffic {
  std::vector<Request> requests;          // equally likely; at least one
  double rate = 1;                        // requests a second, Poisson
  std::vector<int64_t> timeouts_ms = {};  // callers' patience, equally likely; none: without end
  int64_t count = 50'000;                 // requests that are counted; a tenth as many come before
  uint64_t seed = 0;
};

struct FleetLoad {
  int64_t offered = 0;
  int64_t answered = 0;            // within the caller's patience; the others were refused
  int64_t refused = 0;             // at once
  int64_t late = 0;                // admitted, and then given up or answered too late
  double seconds = 0;              // simulated, of what is counted
  double utilization = 0;          // share of the time that servers compute
  std::vector<double> latency_us;  // of those answered, sorted

  double answered_per_s() const { return static_cast<double>(answered) / seconds; }
  // The latency that `percent` of all requests offered keep; infinite if so many were not answered.
  double PercentileUs(double percent) const;
};

// The same for the same arguments. The same requests come at the same times whatever the number of replicas,
// which is at least 1.
FleetLoad SimulateFleet(const ServerProfile& server, const Traffic& traffic, int replicas,
                        Balancing balancing);

// Requests a second that one server answers if `concurrency` callers each send the next request as soon as
// the latest is answered. Of the traffic the rate and the timeouts are not looked at.
double SimulateClosedLoop(const ServerProfile& server, const Traffic& traffic, int concurrency);

}  // namespace headlight::capacity

#endif  // HEADLIGHT_CAPACITY_FLEET_H_
