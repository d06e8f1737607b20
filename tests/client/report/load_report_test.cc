// SPDX-License-Identifier: Apache-2.0
#include "client/report/load_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

LoadDescription Description() {
  return {.server = "host:1",
          .model = "demo",
          .model_version = "1",
          .precision = "f32",
          .started_at = "2026-11-25T04:00:00Z",
          .shape = {2, 16, 768},
          .mean_tokens = 32,
          .mean_bytes = 98'400,
          .connections = 4,
          .timeouts = {5s},
          .warmup = 1s,
          .seed = 7};
}

// Four replies of 1 ms and one of 6 ms, 2 ms on average: half of it queue, a quarter compute.
LoadRun ClosedRun() {
  LoadResult result{.measured = 10s,
                    .sent = 15,
                    .sent_bytes = 492'000,
                    .received_bytes = 500'000,
                    .unfinished = 3,
                    .replies_in_window = 5,
                    .tokens_in_window = 160,
                    .good_in_window = 4,
                    .good_tokens_in_window = 96,
                    .queue_us = 5000,
                    .compute_us = 2500,
                    .server_us = 8000,
                    .batch_requests = 10,
                    .cpu_cores = 0.5,
                    .threads = 1,
                    .cpus = 2};
  for (auto latency : {1ms, 1ms, 1ms, 1ms, 6ms}) {
    result.intended.Record(latency);
    result.actual.Record(latency);
  }
  result.refusals[absl::StatusCode::kResourceExhausted] = {.count = 7, .example = "the queue is full"};
  LatencyHistogram& told = result.refusals[absl::StatusCode::kResourceExhausted].actual;
  for (int i = 0; i < 7; ++i) told.Record(i < 6 ? 1ms : 3ms);
  TimelineBin& bin = *result.timeline.At(2s);
  bin.replies = 5;
  bin.good = 4;
  bin.good_tokens = 96;
  return {.concurrency = 8, .result = result};
}

LoadRun OpenRun(double rate) {
  LoadRun run = ClosedRun();
  run.concurrency = 0;
  run.rate = rate;
  return run;
}

TEST(LoadReportTest, JsonHasTheDocumentedKeys) {
  nlohmann::json json = LoadReportJson(Description(), {ClosedRun()}, std::nullopt);
  nlohmann::json& run = json["runs"][0];
  EXPECT_EQ(run["timeline"].size(), 3u);
  EXPECT_EQ(run["timeline"][2]["t_s"], 2);
  EXPECT_EQ(run["timeline"][2]["replies"], 5);
  EXPECT_EQ(run["timeline"][2]["good"], 4);
  EXPECT_EQ(run["timeline"][2]["goodput_per_s"], 4);
  EXPECT_EQ(run["timeline"][2]["goodput_tokens_per_s"], 96);
  run.erase("timeline");
  nlohmann::json& refusal = run["refusals"]["RESOURCE_EXHAUSTED"];
  EXPECT_NEAR(refusal["latency_ms"]["actual"]["p50"].get<double>(), 1, 0.01);
  EXPECT_NEAR(refusal["latency_ms"]["actual"]["p99"].get<double>(), 3, 0.03);
  EXPECT_NEAR(refusal["latency_ms"]["actual"]["max"].get<double>(), 3, 0.03);
  EXPECT_EQ(refusal["latency_ms"]["intended"]["max"], 0);
  refusal.erase("latency_ms");
  for (const char* view : {"intended", "actual"}) {
    nlohmann::json& latency = run["latency_ms"][view];
    for (const auto& [name, percent] : kLoadPercentiles) {  // within the histogram's 1 %
      EXPECT_NEAR(latency[name].get<double>(), percent <= 80 ? 1 : 6, 0.06);
      EXPECT_TRUE(latency["ci95"].contains(name));
      latency.erase(name);
    }
    EXPECT_TRUE(latency["ci95"]["p99"][1].is_null());  // five values bound no 99th percentile from above
    EXPECT_GE(latency["percentiles"].size(), 50u);
    EXPECT_NEAR(latency["percentiles"].back()[0].get<double>(), 99.999, 1e-9);
    latency.erase("ci95");
    latency.erase("percentiles");
  }
  EXPECT_EQ(json, nlohmann::json::parse(R"({
    "schema": "headlight-loadtest/1", "server": "host:1", "model": "demo", "model_version": "1", "precision": "f32",
    "started_at": "2026-11-25T04:00:00Z", "interrupted": false,
    "request": {"input": "query", "shape": [2, 16, 768], "mean_tokens": 32.0, "mean_bytes": 98400.0, "dtype": "f32",
                "weights": "none"},
    "connections": 4, "arrivals": null, "rate_steps": [], "timeouts_ms": [5000], "cancel_ratio": 0.0, "warmup_s": 1.0, "seed": 7,
    "search": null,
    "runs": [{
      "loop": "closed", "concurrency": 8, "rate": null, "measured_s": 10.0, "sent": 15, "replies": 5,
      "requests_per_s": 0.5, "goodput_per_s": 0.4, "tokens_per_s": 16.0, "goodput_tokens_per_s": 9.6, "sent_bytes": 492000,
      "received_bytes": 500000, "refused": 7,
      "refusals": {"RESOURCE_EXHAUSTED": {"count": 7, "example": "the queue is full"}},
      "cancelled": 0, "unfinished": 3, "unsent": 0,
      "latency_ms": {"intended": {"mean": 2.0, "max": 6.0}, "actual": {"mean": 2.0, "max": 6.0}},
      "timeline_bin_s": 1.0,
      "server_mean": {"queue_us": 1000.0, "compute_us": 500.0, "total_us": 1600.0, "batch_requests": 2.0},
      "server_share": {"queue": 0.5, "compute": 0.25, "other": 0.25},
      "client": {"cpu_cores": 0.5, "threads": 1, "late_ms": {"p50": 0.0, "p99": 0.0, "max": 0.0},
                 "is_bottleneck": false, "warning": null}}]})"));
}

TEST(LoadReportTest, ControlCharactersOfTheServerAreNotPrinted) {
  LoadRun run = ClosedRun();
  run.result.refusals[absl::StatusCode::kResourceExhausted].example = "full\x1b[2J\nof \xff";
  LoadDescription description = Description();
  description.precision = "f32";
  description.model_version = "\x07";
  const auto report = LoadReportJson(description, {run}, std::nullopt);
  EXPECT_THAT(LoadReportText(report), HasSubstr("7 RESOURCE_EXHAUSTED: full\\x1b[2J\\x0aof \\xff\n"));
  EXPECT_THAT(LoadReportText(report), HasSubstr("version \\x07\n"));
}

TEST(LoadReportTest, RateStepsAreToldAsTheyWereAskedFor) {
  LoadDescription description = Description();
  description.rate_steps = {{.at = 5s, .rate = 300}};
  EXPECT_EQ(nlohmann::json(LoadReportJson(description, {}, std::nullopt)["rate_steps"]),
            nlohmann::json::parse(R"([{"t_s": 5.0, "rate": 300.0}])"));
}

TEST(LoadReportTest, TextSaysTheSame) {
  const std::string text = LoadReportText(LoadReportJson(Description(), {ClosedRun()}, std::nullopt));
  EXPECT_THAT(text, HasSubstr("host:1, model demo, version 1\n"));
  EXPECT_THAT(text, HasSubstr("each query [2, 16, 768], 32 tokens, 98.4 kB; 4 connections\n"));
  EXPECT_THAT(text, HasSubstr("8 in flight for 10.0 s\n"));
  EXPECT_THAT(text, HasSubstr("5, 0.5 requests/s, 0.4 in their deadline, 16.0 tokens/s\n"));
  EXPECT_THAT(text, HasSubstr("7 RESOURCE_EXHAUSTED: the queue is full\n"));
  EXPECT_THAT(text, HasSubstr("3 in flight at the end, not counted\n"));
  EXPECT_THAT(text, HasSubstr("queue 50.0 %, compute 25.0 %, other 25.0 % of the mean latency\n"));
  EXPECT_THAT(text, HasSubstr("sent 492.0 kB, received 500.0 kB\n"));
  EXPECT_THAT(text, HasSubstr("p99.99"));
}

TEST(LoadReportTest, SeveralRunsAreATable) {
  LoadDescription description = Description();
  description.arrivals = "poisson";
  description.seq_lens = "uniform:1-128";
  description.shape.clear();
  const LoadSearch search{
      .goal = {.limit_ms = 50},
      .result = {.best_rate = 100, .steps = {{100, 20.0, true}, {200, std::nullopt, false}}}};
  const auto report = LoadReportJson(description, {OpenRun(100), OpenRun(200)}, search);
  EXPECT_FALSE(report["request"].contains("shape"));
  EXPECT_EQ(report["request"]["seq_lens"], "uniform:1-128");
  EXPECT_EQ(nlohmann::json(report["search"]),
            nlohmann::json::parse(R"({"goal": "p99_ms", "limit_ms": 50.0, "best_rate": 100.0,
    "steps": [{"rate": 100.0, "value_ms": 20.0, "met": true}, {"rate": 200.0, "value_ms": null, "met": false}]})"));
  const std::string text = LoadReportText(report);
  EXPECT_THAT(text, HasSubstr("query of lengths uniform:1-128"));
  EXPECT_THAT(text, HasSubstr("\n100 requests/s  "));
  EXPECT_THAT(text, HasSubstr("\n200 requests/s  "));
  EXPECT_THAT(text, HasSubstr("100 requests/s is the highest rate found to meet p99_ms of 50\n"));
}

TEST(LoadReportTest, CsvHasARowForEachRun) {
  LoadRun quoted = OpenRun(200);
  quoted.result.unsent = 3;  // a warning, with a comma or not, is one field
  const std::string csv = LoadReportCsv(LoadReportJson(Description(), {ClosedRun(), quoted}, std::nullopt));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);
  EXPECT_THAT(csv, HasSubstr("model,arrivals,loop,concurrency,rate,measured_s,sent,replies,requests_per_s,"));
  EXPECT_THAT(csv, HasSubstr("\n\"demo\",,\"closed\",8,,10.0,15,5,0.5,0.4,16.0,"));
  EXPECT_THAT(csv, HasSubstr("\n\"demo\",,\"open\",,200.0,10.0,"));
  EXPECT_THAT(csv, HasSubstr("\"3 requests could not be sent within their timeout\",9.6\n"));
}

TEST(LoadReportTest, NothingAtAllIsZerosNotNan) {
  const nlohmann::ordered_json json = LoadReportJson({}, {{.concurrency = 1}}, std::nullopt);
  EXPECT_EQ(json["runs"][0]["requests_per_s"], 0);
  EXPECT_EQ(json["runs"][0]["server_mean"]["queue_us"], 0);
  EXPECT_EQ(json["runs"][0]["server_share"]["other"], 0);
  EXPECT_EQ(json["runs"][0]["refusals"], nlohmann::json::object());
  const std::string text = LoadReportText(json);
  EXPECT_THAT(text, HasSubstr("0, 0.0 requests/s"));
  EXPECT_THAT(text, Not(HasSubstr("latency")));
}

TEST(TesterWarningTest, TellsWhenTheTesterIsTheBottleneck) {
  LoadRun run = OpenRun(100);
  EXPECT_EQ(TesterWarning(run), std::nullopt);
  run.result.cpu_cores = 0.95;
  EXPECT_THAT(TesterWarning(run).value_or(""), HasSubstr("used 0.95 CPUs and can use 1"));
  run.result.cpu_cores = 0.5;
  for (int i = 0; i < 100; ++i) run.result.late.Record(i < 98 ? 1us : 20ms);
  EXPECT_THAT(TesterWarning(run).value_or(""), HasSubstr("sent 20."));
}

}  // namespace
}  // namespace headlight::client
