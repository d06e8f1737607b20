// SPDX-License-Identifier: Apache-2.0
#include "server/observe/span_batches.h"

#include <opentelemetry/sdk/resource/resource_detector.h>
#include <opentelemetry/sdk/trace/batch_span_processor_factory.h>
#include <opentelemetry/sdk/trace/batch_span_processor_options.h>
#include <opentelemetry/semconv/schema_url.h>
#include <opentelemetry/semconv/service_attributes.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <optional>
#include <utility>

#include "server/observe/request_span.h"
#include "server/observe/sdk_messages.h"
#include "server/observe/trace_context.h"

namespace headlight {
namespace {

namespace sdk = opentelemetry::sdk;
namespace semconv = opentelemetry::semconv;
using Spans = opentelemetry::nostd::span<std::unique_ptr<sdk::trace::Recordable>>;

// Whoever runs the server has the last word: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES beat what we say.
sdk::resource::Resource ResourceOf(const SpanSource& source) {
  return sdk::resource::Resource::Create({{semconv::service::kServiceName, "headlight"},
                                          {semconv::service::kServiceVersion, source.version}},
                                         semconv::kSchemaUrl)
      .Merge(sdk::resource::OTELResourceDetector().Detect());
}

}  // namespace

// Tells what became of spans, and stops sending them once the tally is closed.
class SpanBatches::CountingExporter final : public sdk::trace::SpanExporter {
 public:
  CountingExporter(std::unique_ptr<sdk::trace::SpanExporter> exporter, Tally& tally)
      : exporter_(std::move(exporter)), tally_(tally) {}

  std::unique_ptr<sdk::trace::Recordable> MakeRecordable() noexcept override {
    return exporter_->MakeRecordable();
  }

  sdk::common::ExportResult Export(const Spans& spans) noexcept override {
    const auto count = static_cast<int64_t>(spans.size());
    tally_.waiting.fetch_sub(count, std::memory_order_relaxed);
    if (tally_.closed.load(std::memory_order_acquire)) {
      tally_.dropped.fetch_add(count, std::memory_order_relaxed);
      return sdk::common::ExportResult::kFailure;
    }
    (void)TakeSdkError();
    const sdk::common::ExportResult result = exporter_->Export(spans);
    // The OTLP exporter of 1.19 calls everything a success, and tells of failures in its log alone.
    const bool exported = result == sdk::common::ExportResult::kSuccess && !TakeSdkError();
    (exported ? tally_.exported : tally_.failed).fetch_add(count, std::memory_order_relaxed);
    return result;
  }

  bool ForceFlush(std::chrono::microseconds timeout) noexcept override {
    return exporter_->ForceFlush(timeout);
  }

  bool Shutdown(std::chrono::microseconds timeout) noexcept override { return exporter_->Shutdown(timeout); }

 private:
  const std::unique_ptr<sdk::trace::SpanExporter> exporter_;
  Tally& tally_;
};

SpanBatches::SpanBatches(std::unique_ptr<sdk::trace::SpanExporter> exporter, SpanSource source)
    : source_(std::move(source)),
      resource_(ResourceOf(source_)),
      scope_(sdk::instrumentationscope::InstrumentationScope::Create("headlight", source_.version,
                                                                     semconv::kSchemaUrl)),
      processor_(sdk::trace::BatchSpanProcessorFactory::Create(
          std::make_unique<CountingExporter>(std::move(exporter), tally_),
          {.max_queue_size = kMaxWaiting,
           .schedule_delay_millis = kPeriod,
           .max_export_batch_size = kBatchSpans})) {}

SpanBatches::~SpanBatches() { tally_.closed.store(true, std::memory_order_release); }

void SpanBatches::RequestEnded(const RequestRecord& record) {
  const std::optional<TraceContext> context = ParseTraceparent(record.traceparent);
  if (!context || !context->IsSampled()) return;
  // The processor would drop what is too much as well, but only after it was made, and with a line of the log
  // for each.
  if (tally_.waiting.fetch_add(1, std::memory_order_relaxed) >= static_cast<int64_t>(kMaxWaiting) ||
      tally_.closed.load(std::memory_order_acquire)) {
    tally_.waiting.fetch_sub(1, std::memory_order_relaxed);
    tally_.dropped.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  std::unique_ptr<sdk::trace::Recordable> span = processor_->MakeRecordable();
  FillSpan(record, *context, std::chrono::system_clock::now(), *span);
  span->SetResource(resource_);
  span->SetInstrumentationScope(*scope_);
  processor_->OnEnd(std::move(span));
}

SpanExport::Counts SpanBatches::counts() const {
  return {.exported = tally_.exported.load(std::memory_order_relaxed),
          .failed = tally_.failed.load(std::memory_order_relaxed),
          .dropped = tally_.dropped.load(std::memory_order_relaxed)};
}

void SpanBatches::Finish(std::chrono::milliseconds patience) {
  processor_->ForceFlush(patience);
  // The processor's own shutdown would send all that waits however long that takes.
  tally_.closed.store(true, std::memory_order_release);
  processor_->Shutdown(patience);
  const Counts all = counts();
  spdlog::info("spans: {} exported, {} failed, {} dropped", all.exported, all.failed, all.dropped);
}

}  // namespace headlight
