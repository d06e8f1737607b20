// SPDX-License-Identifier: Apache-2.0
#include "server/observe/span_batches.h"

#include <gtest/gtest.h>
#include <opentelemetry/exporters/memory/in_memory_span_exporter_factory.h>
#include <opentelemetry/sdk/trace/span_data.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace headlight {
namespace {

namespace sdk = opentelemetry::sdk;
using opentelemetry::exporter::memory::InMemorySpanData;
using opentelemetry::exporter::memory::InMemorySpanExporterFactory;
using std::chrono::milliseconds;
using std::chrono::seconds;

const SpanSource kSource = {"1.2.3"};

RequestRecord Record(const std::string& flags) {
  RequestRecord record;
  record.service = "headlight.v1.AttentionService";
  record.method = "Attend";
  if (!flags.empty()) record.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-" + flags;
  return record;
}

// Holds up its exports until it is told otherwise, as a collector does that accepts and never answers.
class StuckExporter final : public sdk::trace::SpanExporter {
 public:
  explicit StuckExporter(std::shared_future<void> go_on) : go_on_(std::move(go_on)) {}
  std::unique_ptr<sdk::trace::Recordable> MakeRecordable() noexcept override {
    return std::make_unique<sdk::trace::SpanData>();
  }
  sdk::common::ExportResult Export(
      const opentelemetry::nostd::span<std::unique_ptr<sdk::trace::Recordable>>&) noexcept override {
    go_on_.wait();
    return sdk::common::ExportResult::kFailure;
  }
  bool ForceFlush(std::chrono::microseconds) noexcept override { return true; }
  bool Shutdown(std::chrono::microseconds) noexcept override { return true; }

 private:
  const std::shared_future<void> go_on_;
};

TEST(SpanBatchesTest, SampledRequestsAreExportedBeforeTheEnd) {
  std::shared_ptr<InMemorySpanData> exported;
  SpanBatches spans(InMemorySpanExporterFactory::Create(exported), kSource);
  for (const std::string flags : {"01", "03", "00", "02", ""}) spans.RequestEnded(Record(flags));
  spans.Finish(seconds(60));
  EXPECT_EQ(exported->GetSpans().size(), 2);
  EXPECT_EQ(spans.counts().exported, 2);
  EXPECT_EQ(spans.counts().dropped, 0);

  spans.RequestEnded(Record("01"));  // a straggler
  EXPECT_EQ(spans.counts().dropped, 1);
}

TEST(SpanBatchesTest, TheResourceIsTheProgramUnlessTheEnvironmentNamesAnother) {
  std::shared_ptr<InMemorySpanData> exported;
  const auto names = [&] {
    SpanBatches spans(InMemorySpanExporterFactory::Create(exported), kSource);
    spans.RequestEnded(Record("01"));
    spans.Finish(seconds(60));
    const auto all = exported->GetSpans();
    const auto& attributes = all.at(0)->GetResource().GetAttributes();
    return opentelemetry::nostd::get<std::string>(attributes.at("service.name")) + " " +
           opentelemetry::nostd::get<std::string>(attributes.at("service.version")) + " " +
           all.at(0)->GetInstrumentationScope().GetName();
  };
  EXPECT_EQ(names(), "headlight 1.2.3 headlight");
  setenv("OTEL_SERVICE_NAME", "embeddings", 1);
  EXPECT_EQ(names(), "embeddings 1.2.3 headlight");
  unsetenv("OTEL_SERVICE_NAME");
}

TEST(SpanBatchesTest, AStuckCollectorCostsSpansAndHoldsUpNeitherRequestsNorTheEnd) {
  std::promise<void> go_on;
  SpanBatches spans(std::make_unique<StuckExporter>(go_on.get_future().share()), kSource);
  constexpr int kMany = 3 * static_cast<int>(SpanBatches::kMaxWaiting);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      for (int i = 0; i < kMany / 3; ++i) spans.RequestEnded(Record("01"));
    });
  }
  for (std::thread& caller : callers) caller.join();
  const SpanExport::Counts before = spans.counts();
  EXPECT_EQ(before.exported + before.failed, 0);
  // All but a batch under way and what waits.
  constexpr int kKept = static_cast<int>(SpanBatches::kMaxWaiting + SpanBatches::kBatchSpans);
  EXPECT_GE(before.dropped, kMany - kKept);
  EXPECT_LE(before.dropped, kMany - static_cast<int>(SpanBatches::kMaxWaiting));

  std::thread timeout([&] {  // the exporter's own, long after the patience
    std::this_thread::sleep_for(seconds(1));
    go_on.set_value();
  });
  spans.Finish(milliseconds(20));
  timeout.join();
  const SpanExport::Counts after = spans.counts();
  EXPECT_EQ(after.failed + after.dropped, kMany);
  EXPECT_LE(after.failed, static_cast<int64_t>(SpanBatches::kBatchSpans));
}

}  // namespace
}  // namespace headlight
