// SPDX-License-Identifier: Apache-2.0
#include "client/cli/load_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
          .input_shape = {2, 16, 768},
          .tokens_per_request = 32,
          .request_bytes = 98'400,
          .concurrency = 8,
          .connections = 4,
          .warmup = 1s,
          .duration = 10s,
          .timeout = 5s};
}

// Four replies of 1 ms and one of 6 ms, 2 ms on average: half of it queue, a quarter compute.
LoadResult Result() {
  LoadResult result{.measured = 10s,
                    .reply_bytes = 500'000,
                    .unfinished = 3,
                    .queue_us = 5000,
                    .compute_us = 2500,
                    .server_us = 8000,
                    .batch_requests = 10};
  for (auto latency : {1ms, 1ms, 1ms, 1ms, 6ms}) result.latency.Record(latency);
  result.refusals[absl::StatusCode::kResourceExhausted] = {.count = 7, .example = "the queue is full"};
  return result;
}

TEST(LoadReportTest, JsonHasTheDocumentedKeys) {
  nlohmann::json json = LoadReportJson(Description(), Result());
  for (const char* percentile : {"p50", "p95", "p99"}) {  // within the histogram's 1 %
    EXPECT_NEAR(json["latency_ms"][percentile].get<double>(), percentile == std::string("p50") ? 1 : 6, 0.06);
    json["latency_ms"].erase(percentile);
  }
  EXPECT_EQ(json, nlohmann::json::parse(R"({
    "server": "host:1", "model": "demo", "model_version": "1", "loop": "closed", "concurrency": 8, "connections": 4,
    "warmup_s": 1.0, "duration_s": 10.0, "timeout_ms": 5000,
    "request": {"query_shape": [2, 16, 768], "tokens": 32, "bytes": 98400},
    "measured_s": 10.0, "interrupted": false, "replies": 5, "requests_per_s": 0.5, "tokens_per_s": 16.0,
    "sent_bytes": 492000, "received_bytes": 500000, "refused": 7,
    "refusals": {"RESOURCE_EXHAUSTED": {"count": 7, "example": "the queue is full"}}, "unfinished": 3,
    "latency_ms": {"mean": 2.0, "max": 6.0},
    "server_mean": {"queue_us": 1000.0, "compute_us": 500.0, "total_us": 1600.0, "batch_requests": 2.0},
    "server_share": {"queue": 0.5, "compute": 0.25, "other": 0.25}})"));
}

TEST(LoadReportTest, TextSaysTheSame) {
  const std::string text = LoadReportText(Description(), Result());
  EXPECT_THAT(text, HasSubstr("host:1, model demo, version 1\n"));
  EXPECT_THAT(text,
              HasSubstr("8 in flight over 4 connections; each query [2, 16, 768], 32 tokens, 98.4 kB\n"));
  EXPECT_THAT(text, HasSubstr("10.0 s after 1.0 s of warm-up\n"));
  EXPECT_THAT(text, HasSubstr("5, 0.5 requests/s, 16.0 tokens/s\n"));
  EXPECT_THAT(text, HasSubstr("7 RESOURCE_EXHAUSTED: the queue is full\n"));
  EXPECT_THAT(text, HasSubstr("3 in flight at the end, not counted\n"));
  EXPECT_THAT(text, HasSubstr("max 6.000 ms, mean 2.000 ms\n"));
  EXPECT_THAT(text, HasSubstr("queue 50.0 %, compute 25.0 %, other 25.0 % of the mean latency\n"));
  EXPECT_THAT(text, HasSubstr("sent 492.0 kB, received 500.0 kB\n"));
}

TEST(LoadReportTest, NothingAtAllIsZerosNotNan) {
  const nlohmann::json json = LoadReportJson({}, {});
  EXPECT_EQ(json["requests_per_s"], 0);
  EXPECT_EQ(json["server_mean"]["queue_us"], 0);
  EXPECT_EQ(json["server_share"]["other"], 0);
  EXPECT_EQ(json["refusals"], nlohmann::json::object());
  const std::string text = LoadReportText({}, {});
  EXPECT_THAT(text, HasSubstr("0, 0.0 requests/s"));
  EXPECT_THAT(text, Not(HasSubstr("latency")));
}

}  // namespace
}  // namespace headlight::client
