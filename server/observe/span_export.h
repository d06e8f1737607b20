// SPDX-License-Identifier: Apache-2.0
//
// A span for each request of a trace that is recorded, sent to a collector over OTLP. Takes a build with
// HEADLIGHT_OPENTELEMETRY; others have span_export_absent.cc, which says so.
#ifndef HEADLIGHT_SERVER_OBSERVE_SPAN_EXPORT_H_
#define HEADLIGHT_SERVER_OBSERVE_SPAN_EXPORT_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/observe/request_log.h"

namespace headlight {

// Thread-safe. Never holds up a request: spans wait in a bounded queue, and are dropped where it is full.
class SpanExport : public RequestObserver {
 public:
  struct Counts {  // of spans, since the start
    int64_t exported = 0;
    int64_t failed = 0;   // that the collector did not take
    int64_t dropped = 0;  // that were never sent
  };
  virtual Counts counts() const = 0;

  // Sends what waits for at most `patience` and drops the rest; a sending under way may last kSendTimeout
  // longer. Spans that come later are dropped.
  virtual void Finish(std::chrono::milliseconds patience) = 0;

  static constexpr std::chrono::milliseconds kSendTimeout{3000};
};

// INVALID_ARGUMENT: this build has no export, or `endpoint` is no URL of a collector; both name
// --otlp-endpoint. Empty is fine.
absl::Status CheckOtlpEndpoint(const std::string& endpoint);

// Whom spans are of.
struct SpanSource {
  std::string version;  // of the program
};

// Null if `endpoint`, which CheckOtlpEndpoint has passed, is empty. Whether there is a collector turns out
// when there is a span for it; failures are logged.
std::unique_ptr<SpanExport> StartSpanExport(const std::string& endpoint, SpanSource source);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_SPAN_EXPORT_H_
