// SPDX-License-Identifier: Apache-2.0
//
// What a load test found, for people and for scripts. docs/load-testing.md has the JSON keys, which are
// stable; text and CSV are made from the JSON, so that all three say the same.
#ifndef HEADLIGHT_CLIENT_REPORT_LOAD_REPORT_H_
#define HEADLIGHT_CLIENT_REPORT_LOAD_REPORT_H_

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "client/load/arrivals.h"
#include "client/load/load_result.h"
#include "client/load/rate_search.h"
#include "client/report/load_goals.h"
#include "client/tensor.h"

namespace headlight::client {

inline constexpr char kLoadtestSchema[] = "headlight-loadtest/1";

// What all runs have in common.
struct LoadDescription {
  std::string server;
  std::string model;
  std::string model_version;
  std::string precision;
  std::string started_at;  // UTC, ISO 8601
  bool interrupted = false;

  std::string input = "query";  // or "token_ids"
  Shape shape;                  // of the input; empty if lengths are drawn
  std::string seq_lens;         // --seq-lens as given; empty if not
  double mean_tokens = 0;       // of the prepared requests
  double mean_bytes = 0;
  std::string dtype = "f32";
  std::string weights = "none";

  int connections = 0;
  std::string arrivals;              // "poisson" or "constant"; empty for closed loops
  std::vector<RateStep> rate_steps;  // since the begin of the measured window
  std::vector<std::chrono::milliseconds> timeouts;
  double cancel_ratio = 0;
  std::chrono::milliseconds warmup{0};
  uint64_t seed = 0;
};

struct LoadRun {
  int concurrency = 0;  // of a closed loop
  double rate = 0;      // of an open loop, per second
  LoadResult result;
};

// "8 in flight" or "100 requests/s".
std::string RunName(int concurrency, double rate);
std::string RunName(const nlohmann::ordered_json& run);  // of runs[] of a report

// Why the tester, not the server, may have set the numbers; nothing if it kept up.
std::optional<std::string> TesterWarning(const LoadRun& run);

struct LoadSearch {
  SearchGoal goal;
  SearchResult result;
};

nlohmann::ordered_json LoadReportJson(const LoadDescription& load, const std::vector<LoadRun>& runs,
                                      const std::optional<LoadSearch>& search);

// Both take a report of LoadReportJson.
std::string LoadReportText(const nlohmann::ordered_json& report);
std::string LoadReportCsv(const nlohmann::ordered_json& report);  // a header, and a row for each run

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_REPORT_LOAD_REPORT_H_
