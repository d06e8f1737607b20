// SPDX-License-Identifier: Apache-2.0
#include "server/observe/request_log.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "server/observe/record_fields.h"

namespace headlight {
namespace {

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
