// SPDX-License-Identifier: Apache-2.0
//
// Limits that fit each other and the machine: sizes that nobody set follow from the memory there is, and
// those that somebody set are refused at start if they contradict each other, rather than under the first
// load.
#ifndef HEADLIGHT_SERVER_PROGRAM_FIT_LIMITS_H_
#define HEADLIGHT_SERVER_PROGRAM_FIT_LIMITS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/program/options.h"

namespace headlight {

// What the process may use.
struct MachineLimits {
  int64_t memory_bytes = 0;  // the cgroup's, else the machine's
  int cpus = 1;              // in the affinity mask
  int compute_threads = 1;   // what is used unless somebody asks for another number
  std::optional<double> quota_cpus;
};

MachineLimits DetectMachineLimits();

struct FittedLimits {
  ServerOptions options;              // without a 0 that stands for "as it fits"
  std::vector<std::string> warnings;  // sentences for the log: what works and is unwise
};

// INVALID_ARGUMENT, naming the options and both values: two limits of which only one can hold.
absl::StatusOr<FittedLimits> FitLimits(const ServerOptions& options, const MachineLimits& machine);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_FIT_LIMITS_H_
