// SPDX-License-Identifier: Apache-2.0
//
// The traceparent header of W3C Trace Context: read from a call, and carried on with a span of our own.
#ifndef HEADLIGHT_SERVER_OBSERVE_TRACE_CONTEXT_H_
#define HEADLIGHT_SERVER_OBSERVE_TRACE_CONTEXT_H_

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace headlight {

// Names of the parts in lower-case hex, as they travel. Trivial to copy: each request has one.
struct TraceContext {
  std::array<char, 32> trace_id = {};
  std::array<char, 16> span_id = {};
  std::array<char, 2> flags = {};  // as a number: of its bits the lowest is for IsSampled

  // "00-<trace id>-<span id>-<flags>"
  std::string ToHeader() const;
  std::string SpanId() const { return {span_id.data(), span_id.size()}; }

  // Whether the caller records this trace, whatever else the flags say.
  bool IsSampled() const { return std::string_view("13579bdf").find(flags[1]) != std::string_view::npos; }
};

// The name of the header.
inline constexpr char kTraceparentHeader[] = "traceparent";

// Nothing if `header` is not what the standard allows: 55 characters of version 00, or the beginning of a
// later version; ids that are not all zero. Such a header is to be ignored, never an error.
std::optional<TraceContext> ParseTraceparent(std::string_view header);

// The same trace with a new, random span id. Thread-safe.
TraceContext ChildOf(const TraceContext& parent);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_TRACE_CONTEXT_H_
