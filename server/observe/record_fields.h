// SPDX-License-Identifier: Apache-2.0
//
// The fields of a request's record by name, for all that write them out.
#ifndef HEADLIGHT_SERVER_OBSERVE_RECORD_FIELDS_H_
#define HEADLIGHT_SERVER_OBSERVE_RECORD_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "server/observe/request_record.h"

namespace headlight {

// Of a field: callers choose ids and model names, and errors quote them. Longer ones are cut and end in
// "...".
inline constexpr size_t kLongestFieldBytes = 256;

// Calls `text(name, value)` and `number(name, value)` for every field that says something, in their order;
// that is the code, and what is neither 0 nor empty. Texts may hold any bytes, cut anywhere.
template <typename Text, typename Number>
void ForEachField(const RequestRecord& record, const Text& text, const Number& number) {
  const auto text_if = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    text(name, value.size() <= kLongestFieldBytes ? value : value.substr(0, kLongestFieldBytes) + "...");
  };
  const auto number_if = [&](const char* name, int64_t value) {
    if (value != 0) number(name, value);
  };
  text_if("method", record.method);
  text_if("tenant", record.tenant);
  text_if("id", record.request_id);
  text_if("model", record.model);
  text_if("version", record.version);
  text("code", absl::StatusCodeToString(record.code));
  text_if("reason", record.reason);
  number_if("tokens", record.tokens);
  number_if("sequences", record.sequences);
  number_if("bytes_in", record.bytes_in);
  number_if("bytes_out", record.bytes_out);
  number_if("queue_us", record.queue_us);
  number_if("pack_us", record.pack_us);
  number_if("compute_us", record.compute_us);
  number_if("unpack_us", record.unpack_us);
  number_if("encode_us", record.encode_us);
  number_if("total_us", record.total_us);
  number_if("predicted_us", record.predicted_us);
  number_if("batch_requests", record.batch_requests);
  number_if("batch_sequences", record.batch_sequences);
  number_if("batch_tokens", record.batch_tokens);
  text_if("traceparent", record.traceparent);
  text_if("parent_span", record.parent_span);
  text_if("message", record.message);
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OBSERVE_RECORD_FIELDS_H_
