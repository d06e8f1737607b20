// SPDX-License-Identifier: Apache-2.0
#include "client/report/load_compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "client/report/load_report.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

LoadRun RunAt(int concurrency, double rate, int64_t replies, std::chrono::milliseconds latency) {
  LoadRun run{.concurrency = concurrency, .rate = rate};
  run.result.measured = 10s;
  run.result.replies_in_window = replies;
  for (int64_t i = 0; i < replies; ++i) run.result.intended.Record(latency);
  return run;
}

TEST(LoadCompareTest, PrintsRatiosOfTheRunsThatBothHave) {
  LoadDescription load{.model = "demo", .connections = 4};
  const auto first = LoadReportJson(
      load, {RunAt(8, 0, 1000, 2ms), RunAt(16, 0, 10, 1ms), RunAt(0, 50, 100, 4ms)}, std::nullopt);
  load.connections = 2;
  const auto second = LoadReportJson(
      load, {RunAt(0, 50, 100, 2ms), RunAt(8, 0, 1500, 1ms), RunAt(32, 0, 10, 1ms)}, std::nullopt);
  const std::string text = CompareLoadReports(first, second);
  EXPECT_THAT(text, ContainsRegex("8 in flight\n  requests/s +100 +150 +1.500\n"));
  EXPECT_THAT(text, ContainsRegex("50 requests/s\n  requests/s +10 +10 +1.000\n"));
  EXPECT_THAT(text, ContainsRegex("  p99 ms +2 +1 +0.500\n"));
  EXPECT_THAT(text, HasSubstr("only in the first: 16 in flight\n"));
  EXPECT_THAT(text, HasSubstr("only in the second: 32 in flight\n"));
  EXPECT_THAT(text, HasSubstr("differs: connections 4 and 2\n"));
  EXPECT_THAT(text, Not(HasSubstr("differs: model")));
}

TEST(LoadCompareTest, ComparesWhatSearchesFound) {
  const auto found = [](double best_rate) {
    return LoadReportJson({}, {}, LoadSearch{.result = {.best_rate = best_rate}});
  };
  EXPECT_THAT(CompareLoadReports(found(100), found(125)), ContainsRegex("best rate +100 +125 +1.250\n"));
}

TEST(LoadCompareTest, RefusesWhatIsNoReport) {
  const std::string path = ::testing::TempDir() + "headlight_compare.json";
  for (const char* text :
       {"", "[]", "{}", R"({"schema": "headlight-loadtest/1"})", R"({"schema": "other/1", "runs": []})",
        R"({"schema": "headlight-loadtest/1", "runs": [3]})",
        R"({"schema": "headlight-loadtest/1", "runs": [{"loop": "closed", "rate": 3}]})"}) {
    std::ofstream(path) << text;
    EXPECT_EQ(ReadLoadReport(path).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  std::ofstream(path) << LoadReportJson({}, {RunAt(1, 0, 1, 1ms)}, std::nullopt);
  EXPECT_TRUE(ReadLoadReport(path).ok());
  std::filesystem::remove(path);
  EXPECT_EQ(ReadLoadReport(path).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace headlight::client
