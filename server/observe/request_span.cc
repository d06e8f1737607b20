// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_span.h"

#include <opentelemetry/semconv/incubating/rpc_attributes.h>
#include <opentelemetry/trace/propagation/http_trace_context.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/observe/record_fields.h"

namespace headlight {
namespace {

namespace otel = opentelemetry;
namespace rpc = opentelemetry::semconv::rpc;
using std::chrono::microseconds;

// Fields that a span has a place of its own for.
constexpr std::string_view kHaveAPlace[] = {"method",      "code",        "total_us",
                                            "traceparent", "parent_span", "message"};

std::string ToAscii(const std::string& text) {
  const bool is_ascii =
      std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  return is_ascii ? text : absl::CHexEscape(text);
}

// Whether a span of a server with this code counts as an error, by the conventions: not where the caller is
// to blame.
bool IsError(absl::StatusCode code) {
  return IsOurFault(code) || code == absl::StatusCode::kDeadlineExceeded ||
         code == absl::StatusCode::kUnimplemented || code == absl::StatusCode::kUnavailable;
}

void SetIdentity(const RequestRecord& record, const TraceContext& context,
                 otel::sdk::trace::Recordable& span) {
  using Hex = otel::trace::propagation::HttpTraceContext;
  const otel::trace::TraceFlags flags = Hex::TraceFlagsFromHex({context.flags.data(), context.flags.size()});
  span.SetIdentity({Hex::TraceIdFromHex({context.trace_id.data(), context.trace_id.size()}),
                    Hex::SpanIdFromHex({context.span_id.data(), context.span_id.size()}), flags,
                    /*is_remote=*/false},
                   Hex::SpanIdFromHex(record.parent_span));
  span.SetTraceFlags(flags);
}

// When its batch was begun, and when that was computed.
void AddEvents(const RequestRecord& record, std::chrono::system_clock::time_point start,
               otel::sdk::trace::Recordable& span) {
  if (record.batch_requests == 0) return;
  const auto begun = start + microseconds(record.queue_us);
  const auto packed = begun + microseconds(record.pack_us);
  span.AddEvent("batch begun", otel::common::SystemTimestamp(begun));
  span.AddEvent("batch packed", otel::common::SystemTimestamp(packed));
  span.AddEvent("batch computed", otel::common::SystemTimestamp(packed + microseconds(record.compute_us)));
}

}  // namespace

void FillSpan(const RequestRecord& record, const TraceContext& context,
              std::chrono::system_clock::time_point end, otel::sdk::trace::Recordable& span) {
  const microseconds duration(record.total_us);
  SetIdentity(record, context, span);
  span.SetName(absl::StrCat(record.service, "/", record.method));
  span.SetSpanKind(otel::trace::SpanKind::kServer);
  span.SetStartTime(otel::common::SystemTimestamp(end - duration));
  span.SetDuration(duration);
  if (IsError(record.code)) {
    span.SetStatus(otel::trace::StatusCode::kError, ToAscii(record.message.substr(0, kLongestFieldBytes)));
  }
  span.SetAttribute(rpc::kRpcSystem, rpc::RpcSystemValues::kGrpc);
  span.SetAttribute(rpc::kRpcService, otel::nostd::string_view(record.service));
  span.SetAttribute(rpc::kRpcMethod, otel::nostd::string_view(record.method));
  span.SetAttribute(rpc::kRpcGrpcStatusCode, static_cast<int64_t>(record.code));
  const auto set = [&](std::string_view name, const otel::common::AttributeValue& value) {
    if (std::find(std::begin(kHaveAPlace), std::end(kHaveAPlace), name) != std::end(kHaveAPlace)) return;
    span.SetAttribute("headlight." + std::string(name), value);
  };
  ForEachField(
      record,
      [&](std::string_view name, const std::string& value) {
        const std::string text = ToAscii(value);
        set(name, otel::nostd::string_view(text));
      },
      set);
  AddEvents(record, end - duration, span);
}

}  // namespace headlight
