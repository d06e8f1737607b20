// SPDX-License-Identifier: Apache-2.0
//
// What a simulation must know of a server, and how that follows from what one server measured of itself.
#ifndef HEADLIGHT_CAPACITY_PROFILE_H_
#define HEADLIGHT_CAPACITY_PROFILE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace headlight::capacity {

// One request as the schedule sees it.
struct Request {
  double work_us = 0;  // what it adds to the time of a batch
  int64_t tokens = 1;  // what it adds to the tokens of a batch
};

// The options of the same names of headlight-server.
struct SchedulerOptions {
  int64_t batch_budget_us = 5'000;
  int64_t max_batch_tokens = 8'192;
  int64_t queue_max_requests = 1'024;
  int64_t max_age_ms = 1'000;
};

// How long things take on one server. A batch takes
//   (fixed_us + the requests' work_us + overhead_us for each of them) * one of scatter
// and a reply comes that long after the request has been sent, plus the time in line and one of outside_us.
struct ServerProfile {
  double fixed_us = 0;
  double overhead_us = 0;                // of a busy server's CPUs, for receiving and answering
  std::vector<double> scatter = {1};     // real over predicted times, of mean 1; at least one
  std::vector<double> outside_us = {0};  // network, gRPC and the caller itself; at least one
  SchedulerOptions options;
};

// One reply of the server that is measured.
struct Sample {
  double estimate_us = 0;  // what the server estimates that its batch adds to the time of one without work
  double real_us = 0;      // what its batch took
  int64_t batch_requests = 1;
};

// Estimates and real times, compared: a batch takes fixed_us + scale * estimate_us.
struct Fit {
  double fixed_us = 0;
  double scale = 1;
  std::vector<double> scatter;  // of each sample, real over fitted, of mean 1
};

// By least squares of relative errors, in which a batch counts once however many replies tell of it, and
// samples far from all others (a neighbour on the machine) do not count, but scatter.
// INVALID_ARGUMENT: no samples, or times that are not positive.
absl::StatusOr<Fit> FitTimes(const std::vector<Sample>& samples);

}  // namespace headlight::capacity

#endif  // HEADLIGHT_CAPACITY_PROFILE_H_
