// SPDX-License-Identifier: Apache-2.0
#include "server/observe/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "server/schedule/ticket.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kThreads = 2;

RequestRecord Answered(const std::string& model) {
  RequestRecord record;
  record.method = "Attend";
  record.model = model;
  record.version = "1";
  record.tokens = 16;
  record.sequences = 2;
  record.bytes_in = 1000;
  record.bytes_out = 500;
  record.bytes_copied = 700;
  record.queue_us = 150;
  record.compute_us = 4000;
  record.encode_us = 20;
  record.total_us = 4300;
  record.predicted_us = 3000;
  return record;
}

RequestRecord Refused(const std::string& model, const std::string& reason) {
  RequestRecord record;
  record.method = "Attend";
  record.model = model;
  record.code = absl::StatusCode::kResourceExhausted;
  record.reason = reason;
  record.total_us = 10;
  return record;
}

int64_t LinesOf(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(MetricsTest, TheVersionThatServesIsTheOnlyOneOfItsModel) {
  Metrics metrics(kThreads);
  metrics.ModelServes("a", "1", 100);
  metrics.ModelServes("b", "7", 50);
  metrics.ModelServes("a", "2", 300);
  EXPECT_THAT(metrics.Text(), AllOf(HasSubstr("headlight_models_loaded 2\n"),
                                    HasSubstr("headlight_model_version_info{model=\"a\",version=\"2\"} 1\n"),
                                    HasSubstr("headlight_model_version_info{model=\"b\",version=\"7\"} 1\n"),
                                    HasSubstr("headlight_model_memory_bytes{model=\"a\"} 300\n"),
                                    Not(HasSubstr("version=\"1\""))));
  metrics.ModelIsGone("a");
  metrics.ModelIsGone("never was");
  EXPECT_THAT(metrics.Text(),
              AllOf(HasSubstr("headlight_models_loaded 1\n"),
                    Not(HasSubstr("headlight_model_version_info{model=\"a\"")),
                    Not(HasSubstr("headlight_model_memory_bytes{model=\"a\"")), Not(HasSubstr("never was"))));
}

TEST(MetricsTest, LoadsAreCountedByResultAndTimed) {
  Metrics metrics(kThreads);
  const absl::Status failed = absl::NotFoundError("no such file");
  metrics.ModelLoadEnded("a", "1", absl::OkStatus(), 0.05);
  metrics.ModelLoadEnded("a", "2", failed, 2);
  metrics.ModelLoadEnded("a", "2", failed, 1000);
  EXPECT_THAT(metrics.Text(),
              AllOf(HasSubstr("headlight_model_loads_total{model=\"a\",result=\"ok\"} 1\n"),
                    HasSubstr("headlight_model_loads_total{model=\"a\",result=\"error\"} 2\n"),
                    HasSubstr("headlight_model_load_seconds_bucket{le=\"0.1\"} 1\n"),
                    HasSubstr("headlight_model_load_seconds_count 3\n")));
}

TEST(MetricsTest, RequestsAreCountedByModelMethodAndCode) {
  Metrics metrics(kThreads);
  metrics.ModelServes("a", "1", 100);
  metrics.RequestEnded(Answered("a"));
  metrics.RequestEnded(Answered("a"));
  metrics.RequestEnded(Refused("a", kReasonQueueFull));
  EXPECT_THAT(
      metrics.Text(),
      AllOf(HasSubstr("headlight_requests_total{code=\"OK\",method=\"Attend\",model=\"a\"} 2\n"),
            HasSubstr(
                "headlight_requests_total{code=\"RESOURCE_EXHAUSTED\",method=\"Attend\",model=\"a\"} 1\n"),
            HasSubstr("headlight_refusals_total{reason=\"queue_full\"} 1\n"),
            HasSubstr("headlight_request_duration_seconds_bucket{code=\"OK\",model=\"a\",le=\"0.0025\"} 0\n"),
            HasSubstr("headlight_request_duration_seconds_bucket{code=\"OK\",model=\"a\",le=\"0.005\"} 2\n"),
            HasSubstr("headlight_request_queue_seconds_count{code=\"OK\",model=\"a\"} 2\n"),
            HasSubstr("headlight_request_compute_seconds_sum{code=\"OK\",model=\"a\"} 0.008\n"),
            HasSubstr("headlight_request_encode_seconds_count{code=\"OK\",model=\"a\"} 2\n"),
            HasSubstr("headlight_tokens_total{model=\"a\"} 32\n"),
            HasSubstr("headlight_sequences_total{model=\"a\"} 4\n")));
  EXPECT_THAT(metrics.Text(),
              AllOf(HasSubstr("headlight_request_bytes_total{model=\"a\"} 2000\n"),
                    HasSubstr("headlight_reply_bytes_total{model=\"a\"} 1000\n"),
                    HasSubstr("headlight_copied_bytes_total{model=\"a\"} 1400\n"),
                    Not(HasSubstr("headlight_request_compute_seconds_count{code=\"RESOURCE"))));
  ASSERT_EQ(metrics.Latencies().size(), 1u);
  EXPECT_EQ(metrics.Latencies()[0].requests, 2);
  EXPECT_GT(metrics.Latencies()[0].p50_s, 0.0025);
  EXPECT_LE(metrics.Latencies()[0].p99_s, 0.005);
}

TEST(MetricsTest, CancellationSavesWhatWasPredictedAndNotDone) {
  Metrics metrics(kThreads);
  metrics.ModelServes("a", "1", 100);
  RequestRecord cancelled = Refused("a", kReasonCancelled);
  cancelled.code = absl::StatusCode::kCancelled;
  cancelled.predicted_us = 3'000'000;
  metrics.RequestEnded(cancelled);
  cancelled.compute_us = 2'000'000;  // it had begun
  metrics.RequestEnded(cancelled);
  cancelled.compute_us = 9'000'000;  // the batch was larger than it was
  metrics.RequestEnded(cancelled);
  RequestRecord never_admitted = Refused("a", kReasonBehindQueue);
  never_admitted.predicted_us = 5'000'000;
  metrics.RequestEnded(never_admitted);
  EXPECT_THAT(metrics.Text(), HasSubstr("headlight_saved_cpu_seconds_total{model=\"a\"} 8\n"));
}

TEST(MetricsTest, BatchesTellTheirSizesAndHowWellTheyWerePredicted) {
  Metrics metrics(kThreads);
  metrics.SetGemmPeak(100e9);
  metrics.BatchEnded(
      {.requests = 3, .tokens = 200, .flops = 1e9, .predicted_ns = 24'000'000, .real_ns = 20'000'000});
  metrics.BatchEnded({.requests = 1, .tokens = 9, .flops = 5e9, .real_ns = 1, .whole = false});
  EXPECT_THAT(metrics.Text(), AllOf(HasSubstr("headlight_batch_requests_sum 4\n"),
                                    HasSubstr("headlight_batch_tokens_bucket{le=\"256\"} 2\n"),
                                    HasSubstr("headlight_prediction_ratio_bucket{le=\"1.1\"} 0\n"),
                                    HasSubstr("headlight_prediction_ratio_bucket{le=\"1.25\"} 1\n"),
                                    HasSubstr("headlight_computed_flops_total 1000000000\n"),
                                    HasSubstr("headlight_compute_seconds_total 0.02\n"),
                                    HasSubstr("headlight_gemm_peak_ratio 0.5\n")));
}

TEST(MetricsTest, NamesOfCallersNeverBecomeLabels) {
  Metrics metrics(kThreads);
  metrics.ModelServes("a", "1", 100);
  metrics.RequestEnded(Refused("b", kReasonQueueFull));
  const int64_t lines = LinesOf(metrics.Text());
  for (int i = 0; i < 10'000; ++i) {
    RequestRecord record = Refused("model" + std::to_string(i), kReasonQueueFull);
    record.request_id = "id" + std::to_string(i);
    metrics.RequestEnded(record);
  }
  const std::string text = metrics.Text();
  EXPECT_EQ(LinesOf(text), lines);
  EXPECT_THAT(
      text,
      HasSubstr(
          "headlight_requests_total{code=\"RESOURCE_EXHAUSTED\",method=\"Attend\",model=\"\"} 10001\n"));
}

TEST(MetricsTest, ModelsThatComeAndGoLeaveABoundedNumberOfSeries) {
  Metrics metrics(kThreads);
  metrics.ModelServes("stays", "1", 100);
  metrics.RequestEnded(Answered("stays"));
  const auto come_and_go = [&](const std::string& name) {
    metrics.ModelLoadEnded(name, "1", absl::OkStatus(), 0.1);
    metrics.ModelServes(name, "1", 100);
    metrics.RequestEnded(Answered(name));
    metrics.ModelIsGone(name);
    metrics.RequestEnded(Answered(name));  // it was still being computed
    metrics.ModelLoadEnded(name + "-broken", "1", absl::NotFoundError("no file"), 0.1);
  };
  for (size_t i = 0; i < Metrics::kModelsKept; ++i) come_and_go("early" + std::to_string(i));
  const int64_t lines = LinesOf(metrics.Text());
  for (int i = 0; i < 10'000; ++i) come_and_go("late" + std::to_string(i));
  const std::string text = metrics.Text();
  EXPECT_EQ(LinesOf(text), lines);
  EXPECT_THAT(text,
              AllOf(HasSubstr("headlight_requests_total{code=\"OK\",method=\"Attend\",model=\"stays\"} 1\n"),
                    HasSubstr("model=\"late9999\"} 2\n"), Not(HasSubstr("early")),
                    HasSubstr("headlight_models_loaded 1\n")));
}

TEST(MetricsTest, AModelThatComesBackGoesOnCounting) {
  Metrics metrics(kThreads);
  metrics.ModelServes("a", "1", 100);
  metrics.RequestEnded(Answered("a"));
  metrics.ModelIsGone("a");
  metrics.ModelServes("a", "2", 100);
  metrics.RequestEnded(Answered("a"));
  EXPECT_THAT(metrics.Text(), AllOf(HasSubstr("headlight_tokens_total{model=\"a\"} 32\n"),
                                    HasSubstr("headlight_models_loaded 1\n")));
}

TEST(MetricsTest, WhatIsWatchedIsReadWhenItIsAskedFor) {
  Metrics metrics(kThreads);
  double value = 1;
  metrics.WatchOne("headlight_something", "Something", Metrics::Kind::kGauge, [&] { return value; });
  metrics.Watch("headlight_things_total", "Things", Metrics::Kind::kCounter, [] {
    return Metrics::Values{{{{"kind", "x"}}, 3}, {{{"kind", "y"}}, 4}};
  });
  EXPECT_THAT(metrics.Text(), HasSubstr("headlight_something 1\n"));
  value = 2;
  EXPECT_THAT(metrics.Text(), AllOf(HasSubstr("headlight_something 2\n"),
                                    HasSubstr("# TYPE headlight_things_total counter\n"),
                                    HasSubstr("headlight_things_total{kind=\"y\"} 4\n")));
}

TEST(MetricsTest, NothingIsLostBetweenThreads) {
  constexpr int kCounters = 4;
  constexpr int kRequests = 500;
  Metrics metrics(kThreads);
  metrics.ModelServes("a", "1", 100);
  std::vector<std::thread> threads;
  for (int i = 0; i < kCounters; ++i) {
    threads.emplace_back([&] {
      for (int request = 0; request < kRequests; ++request) {
        metrics.RequestEnded(Answered("a"));
        metrics.RequestEnded(Refused("comes and goes", kReasonMemory));
        metrics.BatchEnded({.requests = 1, .real_ns = 1000});
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    metrics.ModelServes("comes and goes", std::to_string(i), 100);
    EXPECT_THAT(metrics.Text(), HasSubstr("headlight_models_loaded 2\n"));
    metrics.ModelIsGone("comes and goes");
  }
  for (std::thread& thread : threads) thread.join();
  const std::string total = std::to_string(kCounters * kRequests);
  EXPECT_THAT(
      metrics.Text(),
      AllOf(HasSubstr("headlight_requests_total{code=\"OK\",method=\"Attend\",model=\"a\"} " + total + "\n"),
            HasSubstr("headlight_refusals_total{reason=\"memory\"} " + total + "\n"),
            HasSubstr("headlight_batch_requests_count " + total + "\n")));
}

TEST(MetricsTest, TheProcessIsDescribed) {
  const std::string text = Metrics(kThreads).Text();
  for (const char* name : {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
                           "process_max_fds", "process_threads", "process_start_time_seconds"}) {
    EXPECT_THAT(text, HasSubstr(std::string("\n") + name + " ")) << name;
  }
}

}  // namespace
}  // namespace headlight
