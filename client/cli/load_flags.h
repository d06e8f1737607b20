// SPDX-License-Identifier: Apache-2.0
//
// What `headlight loadtest` can be told, and the part of it that says what the requests are, which `headlight
// capacity` takes too.
#ifndef HEADLIGHT_CLIENT_CLI_LOAD_FLAGS_H_
#define HEADLIGHT_CLIENT_CLI_LOAD_FLAGS_H_

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/flags.h"
#include "client/cli/load_requests.h"
#include "client/report/load_goals.h"

namespace headlight::client {

// --seq-lens of a load test: the same lengths for all requests, or a distribution to draw them from.
struct LoadLengths {
  std::string text;
  std::vector<int64_t> fixed;
  LengthDistribution drawn;
};

// All Parse functions: INVALID_ARGUMENT, saying what was got and what was wanted.
absl::StatusOr<LoadLengths> ParseLoadLengths(const std::string& text);
absl::StatusOr<std::vector<int>> ParseConcurrencies(const std::string& text);   // "1,2,4"
absl::StatusOr<std::vector<double>> ParseRates(const std::string& text);        // "100,200.5": per second
absl::StatusOr<std::vector<RateStep>> ParseRateSteps(const std::string& text);  // "5s=300,8s=150": in order
absl::StatusOr<Arrivals> ParseArrivals(const std::string& text);                // "poisson", "constant"
absl::StatusOr<std::vector<std::chrono::milliseconds>> ParseTimeouts(const std::string& text);  // "50,1000"
absl::StatusOr<SearchGoal> ParseSearchGoal(const std::string& text);                            // "p99_ms=50"

// The server, what it is sent, and how long callers wait.
struct TrafficFlags {
  ServerFlags server;
  RequestFlags request;
  LoadLengths lengths;
  int64_t sequences = 1;
  int pool_size = 256;
  std::vector<std::chrono::milliseconds> timeouts;
};

struct LoadtestFlags : TrafficFlags {
  std::vector<int> concurrencies;
  std::vector<double> rates;
  std::vector<RateStep> rate_steps;
  Arrivals arrivals = Arrivals::kPoisson;
  int max_in_flight = 1 << 14;
  int channels = 0;  // 0: not given
  std::chrono::milliseconds warmup{1000};
  std::chrono::milliseconds duration{10'000};
  int64_t count = 0;
  std::chrono::milliseconds timeline_width{0};  // 0: not given
  double cancel_ratio = 0;
  std::chrono::milliseconds cancel_within{10};

  SearchGoal search;  // a limit of 0: no search
  std::vector<std::string> compare;

  std::string json_path;  // "-" is the standard output; so are the next two
  std::string csv_path;
  std::string html_path;

  bool is_open_loop() const { return !rates.empty() || search.limit_ms > 0; }
  int num_channels() const;
};

void AddTrafficFlags(CLI::App& command, TrafficFlags& flags);
void AddLoadtestFlags(CLI::App& command, LoadtestFlags& flags);  // these among them

// After parsing: fill in what follows from other flags. INVALID_ARGUMENT if they contradict themselves.
absl::Status CompleteTrafficFlags(TrafficFlags& flags);
absl::Status CompleteLoadtestFlags(LoadtestFlags& flags);

// The requests that the flags describe, for `model`. Errors as MakeRequestPool's.
absl::StatusOr<RequestPool> MakePool(const TrafficFlags& flags, const v1::Model& model);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_LOAD_FLAGS_H_
