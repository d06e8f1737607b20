// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "server/observe/span_export.h"

namespace headlight {

absl::Status CheckOtlpEndpoint(const std::string& endpoint) {
  if (endpoint.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--otlp-endpoint: got ", Quoted(endpoint),
                   ", wanted none: this program was built without OpenTelemetry. cmake "
                   "-DHEADLIGHT_OPENTELEMETRY=ON builds it in, with opentelemetry-cpp-dev of Debian 13"));
}

std::unique_ptr<SpanExport> StartSpanExport(const std::string& /*endpoint*/, SpanSource /*source*/) {
  return nullptr;
}

}  // namespace headlight
