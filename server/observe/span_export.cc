// SPDX-License-Identifier: Apache-2.0
#include "server/observe/span_export.h"

#include <opentelemetry/exporters/otlp/otlp_http_exporter_factory.h>
#include <opentelemetry/exporters/otlp/otlp_http_exporter_options.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/text.h"
#include "server/observe/sdk_messages.h"
#include "server/observe/span_batches.h"

namespace headlight {
namespace {

namespace otlp = opentelemetry::exporter::otlp;

constexpr char kTracesPath[] = "/v1/traces";

// OTLP's rule: the path of a signal is added to the URL of the collector. Who gives it whole means the same.
std::string TracesUrl(const std::string& endpoint) {
  const std::string base(absl::StripSuffix(endpoint, "/"));
  return absl::EndsWith(base, kTracesPath) ? base : base + kTracesPath;
}

}  // namespace

absl::Status CheckOtlpEndpoint(const std::string& endpoint) {
  if (endpoint.empty()) return absl::OkStatus();
  absl::string_view rest = endpoint;
  const bool has_scheme = absl::ConsumePrefix(&rest, "http://") || absl::ConsumePrefix(&rest, "https://");
  const bool has_host = !rest.empty() && rest[0] != '/' && rest[0] != ':';
  const bool is_plain = std::all_of(rest.begin(), rest.end(), [](char c) { return absl::ascii_isgraph(c); });
  if (has_scheme && has_host && is_plain && !absl::StrContains(rest, "@")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--otlp-endpoint: got ", Quoted(endpoint),
                   ", wanted http://HOST:PORT or https://HOST:PORT, without credentials: those go into "
                   "OTEL_EXPORTER_OTLP_HEADERS"));
}

std::unique_ptr<SpanExport> StartSpanExport(const std::string& endpoint, SpanSource source) {
  if (endpoint.empty()) return nullptr;
  SendSdkMessagesToLog();
  otlp::OtlpHttpExporterOptions options;  // with what OTEL_EXPORTER_OTLP_* say of headers and TLS
  options.url = TracesUrl(endpoint);
  options.timeout = std::min<std::chrono::system_clock::duration>(options.timeout, SpanExport::kSendTimeout);
  options.retry_policy_max_attempts = 1;  // a shutdown waits for a sending, and spans for the next
  return std::make_unique<SpanBatches>(otlp::OtlpHttpExporterFactory::Create(options), std::move(source));
}

}  // namespace headlight
