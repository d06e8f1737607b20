// SPDX-License-Identifier: Apache-2.0
//
// Spans on their way: collected while requests end, exported in batches by a thread of OpenTelemetry's.
#ifndef HEADLIGHT_SERVER_OBSERVE_SPAN_BATCHES_H_
#define HEADLIGHT_SERVER_OBSERVE_SPAN_BATCHES_H_

#include <opentelemetry/sdk/instrumentationscope/instrumentation_scope.h>
#include <opentelemetry/sdk/resource/resource.h>
#include <opentelemetry/sdk/trace/exporter.h>
#include <opentelemetry/sdk/trace/processor.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "server/observe/span_export.h"

namespace headlight {

class SpanBatches final : public SpanExport {
 public:
  SpanBatches(std::unique_ptr<opentelemetry::sdk::trace::SpanExporter> exporter, SpanSource source);
  ~SpanBatches() override;  // drops what waits, unless Finish was called

  void RequestEnded(const RequestRecord& record) override;
  Counts counts() const override;
  void Finish(std::chrono::milliseconds patience) override;

  // So many spans may wait, at 5 KiB each or, with texts as long as can be, 8: 16 MiB at most. As many as a
  // batch has are sent at once, fewer after a while.
  static constexpr size_t kMaxWaiting = 2048;
  static constexpr size_t kBatchSpans = 512;
  static constexpr std::chrono::milliseconds kPeriod{2000};

 private:
  struct Tally {
    std::atomic<int64_t> waiting{0};  // handed to the processor, not yet to the exporter
    std::atomic<int64_t> exported{0};
    std::atomic<int64_t> failed{0};
    std::atomic<int64_t> dropped{0};
    std::atomic<bool> closed{false};  // nothing is sent any more
  };
  class CountingExporter;

  const SpanSource source_;
  const opentelemetry::sdk::resource::Resource resource_;
  const opentelemetry::nostd::unique_ptr<opentelemetry::sdk::instrumentationscope::InstrumentationScope>
      scope_;
  Tally tally_;
  const std::unique_ptr<opentelemetry::sdk::trace::SpanProcessor> processor_;  // last: it uses what is above
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_SPAN_BATCHES_H_
