// SPDX-License-Identifier: Apache-2.0
//
// A simulated server (capacity/) between arrivals of several callers, with predictions and times that are off
// in many ways. No threads, no sleeps; a run is a function of its options.
#ifndef HEADLIGHT_TESTS_SERVER_SCHEDULE_ENGINE_SIMULATION_H_
#define HEADLIGHT_TESTS_SERVER_SCHEDULE_ENGINE_SIMULATION_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "server/schedule/cost_model.h"
#include "server/schedule/engine_state.h"
#include "server/schedule/ticket.h"

namespace headlight::testing {

// The encoder's stand-in: a request of `tokens` takes 0.1 ms + 0.085 ms a token + 49 ns a pair, which is 0.8
// ms for 8 tokens and 25 ms for 256. The tickets of a batch share the 0.1 ms.
WorkCost CostOf(int64_t tokens);
double RealNs(const WorkCost& cost);
inline constexpr CostPrior kTruth{
    .ns_per_projection_flop = 0.085, .ns_per_attention_flop = 0.049, .ns_per_byte = 0.0, .fixed_ns = 100e3};

// Mean of RealNs over lengths that are uniform in 8..256: the reciprocal is the capacity.
double MeanServiceNs();

// Arrivals of one caller.
struct Stream {
  double load = 1;             // of the capacity
  double load_from_step = -1;  // the load after Plan::step_s; negative: as before
  Caller caller;
  int64_t deadline_us = 200'000;  // after arrival; 0: none
  bool held_back = false;
};

struct Plan {
  std::vector<Stream> streams;
  double seconds = 300;
  double step_s = 0;  // when the loads change
  double noise = 0;   // each prediction is multiplied with 1 - noise .. 1 + noise
  double jitter = 0;  // each real time is multiplied with 1 - jitter .. 1 + jitter
  double drift = 0;   // and all of some 300 ms with 1 - drift .. 1 + drift
  CostPrior prior = kTruth;
  EngineOptions engine;
  uint32_t seed = 1;
  double window_s = 0;  // > 0: goodput of each window of this length is wanted
};

// Of one stream.
struct Served {
  int64_t offered = 0;
  int64_t admitted = 0;
  int64_t refused = 0;  // at arrival
  int64_t in_time = 0;
  int64_t late = 0;                    // admitted, and dropped or finished after the deadline
  double request_goodput = 0;          // answered in time, of the capacity in requests
  double work_goodput = 0;             // and of the capacity in compute time
  std::vector<double> window_goodput;  // in compute time, from Plan::step_s on

  double late_share() const {
    return admitted == 0 ? 0 : static_cast<double>(late) / static_cast<double>(admitted);
  }
};

std::vector<Served> Simulate(const Plan& plan);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_SCHEDULE_ENGINE_SIMULATION_H_
