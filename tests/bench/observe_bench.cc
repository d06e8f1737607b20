// SPDX-License-Identifier: Apache-2.0
//
// What it costs to count a request and to write its line into the log.
#include <benchmark/benchmark.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "server/observe/metrics.h"
#include "server/observe/recent_errors.h"
#include "server/observe/request_log.h"
#include "server/observe/trace_context.h"
#include "server/schedule/ticket.h"

namespace headlight {
namespace {

RequestRecord Answered() {
  RequestRecord record;
  record.method = "Attend";
  record.request_id = "request-1234567";
  record.tenant = "search";
  record.model = "minilm";
  record.version = "3";
  record.tokens = 8;
  record.sequences = 1;
  record.bytes_in = 120;
  record.bytes_out = 1600;
  record.bytes_copied = 64;
  record.queue_us = 30;
  record.pack_us = 4;
  record.compute_us = 900;
  record.unpack_us = 5;
  record.encode_us = 3;
  record.total_us = 960;
  record.predicted_us = 850;
  record.batch_requests = 1;
  record.batch_tokens = 8;
  record.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  record.parent_span = "00f067aa0ba902b7";
  return record;
}

RequestRecord Refused() {
  RequestRecord record = Answered();
  record.code = absl::StatusCode::kResourceExhausted;
  record.reason = kReasonQueueFull;
  record.message = "the queue is full: 1024 requests wait, the limit is 1024 (--queue-max-requests)";
  return record;
}

void MakeQuiet() {
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("bench", std::make_shared<spdlog::sinks::null_sink_mt>()));
}

// All that a server does with a request that has ended. The argument: lines a second that the log may have.
void EmitRequest(benchmark::State& state, const RequestRecord& record) {
  MakeQuiet();
  Metrics metrics(/*compute_threads=*/2);
  RecentErrors errors;
  metrics.ModelServes("minilm", "3", 1 << 20);
  RequestLog log({RequestLogForm::kJson, state.range(0)}, {&metrics, &errors});
  for (auto _ : state) log.Emit(record);
}
constexpr int64_t kNoBound = std::numeric_limits<int64_t>::max();
BENCHMARK_CAPTURE(EmitRequest, answered, Answered())->Arg(0)->Arg(50)->Arg(kNoBound);
BENCHMARK_CAPTURE(EmitRequest, refused, Refused())->Arg(0)->Arg(50)->Arg(kNoBound);

void CountBatch(benchmark::State& state) {
  Metrics metrics(/*compute_threads=*/2);
  metrics.SetGemmPeak(1e11);
  const BatchFacts batch = {
      .requests = 4, .tokens = 64, .flops = 1e9, .predicted_ns = 900'000, .real_ns = 950'000};
  for (auto _ : state) metrics.BatchEnded(batch);
}
BENCHMARK(CountBatch);

void ReadTraceparent(benchmark::State& state) {
  const std::string header = Answered().traceparent;
  for (auto _ : state) {
    const std::optional<TraceContext> context = ParseTraceparent(header);
    benchmark::DoNotOptimize(ChildOf(*context).ToHeader());
  }
}
BENCHMARK(ReadTraceparent);

// The argument: models that serve and have answered.
void Scrape(benchmark::State& state) {
  MakeQuiet();
  Metrics metrics(/*compute_threads=*/2);
  for (int64_t i = 0; i < state.range(0); ++i) {
    RequestRecord record = Answered();
    record.model += std::to_string(i);
    metrics.ModelServes(record.model, "1", 1 << 20);
    metrics.RequestEnded(record);
  }
  for (auto _ : state) benchmark::DoNotOptimize(metrics.Text());
}
BENCHMARK(Scrape)->Arg(1)->Arg(20)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace headlight

BENCHMARK_MAIN();
