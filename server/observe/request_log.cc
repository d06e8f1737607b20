// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_log.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"

namespace headlight {
namespace {

// Of a field: callers choose ids and model names, and errors quote them.
constexpr size_t kLongestText = 256;

// Calls `text(name, value)` and `number(name, value)` for every field that says something, in their order.
template <typename Text, typename Number>
void ForEachField(const RequestRecord& record, const Text& text, const Number& number) {
  const auto text_if = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    text(name, value.size() <= kLongestText ? value : value.substr(0, kLongestText) + "...");
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
  number_if("batch_tokens", record.batch_tokens);
  text_if("traceparent", record.traceparent);
  text_if("parent_span", record.parent_span);
  text_if("message", record.message);
}

// Callers choose ids and names: only what cannot be mistaken for another field stands without quotes.
bool IsPlainWord(const std::string& text) {
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@[]") ==
         std::string::npos;
}

}  // namespace

RequestLog::RequestLog(const RequestLogOptions& options, std::vector<RequestObserver*> observers)
    : options_(options),
      observers_(std::move(observers)),
      logger_(spdlog::default_logger()->clone(kRequestLogger)),
      ordinary_(options.lines_per_s),
      refused_(options.lines_per_s) {
  logger_->set_level(spdlog::level::trace);  // the default logger's level decides, whenever that changes
}

void RequestLog::Emit(const RequestRecord& record) {
  for (RequestObserver* observer : observers_) observer->RequestEnded(record);
  const bool our_fault = IsOurFault(record.code);
  const auto level = our_fault ? spdlog::level::err : spdlog::level::info;
  if (!spdlog::should_log(level)) return;
  if (!our_fault && !spdlog::should_log(spdlog::level::debug)) {
    LogBudget& budget = record.code == absl::StatusCode::kOk ? ordinary_ : refused_;
    if (!budget.Take(std::chrono::steady_clock::now())) return;
  }
  logger_->log(level, "{}",
               options_.form == RequestLogForm::kJson ? RequestJson(record) : RequestText(record));
}

void RequestLog::TellLeftOut() {
  const int64_t ordinary = ordinary_.TakeLeftOut();
  const int64_t refused = refused_.TakeLeftOut();
  if (options_.lines_per_s == 0 || ordinary + refused == 0) return;
  spdlog::info(
      "lines left out of the log: {} of requests that were answered, {} of others (--access-log-per-s {})",
      ordinary, refused, options_.lines_per_s);
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
