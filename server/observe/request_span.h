// SPDX-License-Identifier: Apache-2.0
//
// What the span of a request says, in OpenTelemetry's words.
#ifndef HEADLIGHT_SERVER_OBSERVE_REQUEST_SPAN_H_
#define HEADLIGHT_SERVER_OBSERVE_REQUEST_SPAN_H_

#include <opentelemetry/sdk/trace/recordable.h>

#include <chrono>

#include "server/observe/request_record.h"
#include "server/observe/trace_context.h"

namespace headlight {

// Fills in `span`, a new one, for the request that ended at `end`; all but its resource and its scope.
// `context` is the request's own. Attributes are those of the semantic conventions for RPC (1.29), and the
// fields of the access log under "headlight."; never bytes of a payload. All texts are ASCII, as OTLP takes
// no strings but UTF-8 and refuses a whole batch for one that is not.
void FillSpan(const RequestRecord& record, const TraceContext& context,
              std::chrono::system_clock::time_point end, opentelemetry::sdk::trace::Recordable& span);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_REQUEST_SPAN_H_
