// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_log.h"

#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"

namespace headlight {
namespace {

// Calls `text(name, value)` and `number(name, value)` for every field that says something, in their order.
template <typename Text, typename Number>
void ForEachField(const RequestRecord& record, const Text& text, const Number& number) {
  const auto text_if = [&](const char* name, const std::string& value) {
    if (!value.empty()) text(name, value);
  };
  const auto number_if = [&](const char* name, int64_t value) {
    if (value != 0) number(name, value);
  };
  text_if("method", record.method);
  text_if("caller", record.caller);
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
  number_if("batch_tokens", record.batch_tokens);
  text_if("message", record.message);
}

bool IsOurFault(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal || code == absl::StatusCode::kDataLoss ||
         code == absl::StatusCode::kUnknown;
}

// Callers choose ids and names: only what cannot be mistaken for another field stands without quotes.
bool IsPlainWord(const std::string& text) {
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@[]") ==
         std::string::npos;
}

}  // namespace

RequestLog::RequestLog(RequestLogForm form, std::vector<RequestObserver*> observers)
    : form_(form),
      observers_(std::move(observers)),
      logger_(spdlog::default_logger()->clone(kRequestLogger)) {}

void RequestLog::Emit(const RequestRecord& record) const {
  for (RequestObserver* observer : observers_) observer->RequestEnded(record);
  const auto level = IsOurFault(record.code) ? spdlog::level::err : spdlog::level::debug;
  if (!logger_->should_log(level)) return;
  logger_->log(level, "{}", form_ == RequestLogForm::kJson ? RequestJson(record) : RequestText(record));
}

std::string RequestText(const RequestRecord& record) {
  std::string line = "request";
  ForEachField(
      record,
      [&](const char* name, const std::string& value) {
        absl::StrAppend(&line, " ", name, "=", IsPlainWord(value) ? value : Quoted(value));
      },
      [&](const char* name, int64_t value) { absl::StrAppend(&line, " ", name, "=", value); });
  return line;
}

std::string RequestJson(const RequestRecord& record) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  const auto set = [&](const char* name, const auto& value) { object[name] = value; };
  ForEachField(record, set, set);
  return object.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace headlight
