// SPDX-License-Identifier: Apache-2.0
#include "server/program/logging.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "core/base/text.h"
#include "server/observe/request_log.h"

namespace headlight {
namespace {

// %J: the message as a JSON string, in which bytes that are no UTF-8 are replaced; of a request, the word
// "request" and the object of its fields as a member of that name.
class JsonMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string text(message.payload.data(), message.payload.size());
    if (std::string(message.logger_name.data(), message.logger_name.size()) == kRequestLogger) {
      const std::string members = R"("request","request":)" + text;
      out.append(members.data(), members.data() + members.size());
      return;
    }
    const std::string json =
        nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
    out.append(json.data(), json.data() + json.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<JsonMessage>(); }
};

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

void LogForGrpc(gpr_log_func_args* args) {
  const bool error = args->severity == GPR_LOG_SEVERITY_ERROR;
  const auto ours = error ? spdlog::level::warn : spdlog::level::debug;
  if (spdlog::should_log(ours)) spdlog::log(ours, "grpc: {}", absl::CHexEscape(args->message));
}

// Protobuf complains of what callers send; they get an error for it, the operator need not read it.
void LogForProtobuf(google::protobuf::LogLevel level, const char*, int, const std::string& message) {
  const auto ours =
      level == google::protobuf::LOGLEVEL_FATAL ? spdlog::level::critical : spdlog::level::debug;
  if (spdlog::should_log(ours)) spdlog::log(ours, "protobuf: {}", Quoted(message));
}

}  // namespace

void SetLogLevel(LogLevel level) { spdlog::default_logger_raw()->set_level(ToSpdlog(level)); }

bool IsLogLevel(LogLevel level) { return spdlog::default_logger_raw()->level() == ToSpdlog(level); }

void ConfigureLogging(LogLevel level, LogFormat format) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<JsonMessage>('J').set_pattern(
      format == LogFormat::kJson ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","message":%J})"
                                 : "%Y-%m-%dT%H:%M:%S.%eZ %-5l %v");
  auto logger =
      std::make_shared<spdlog::logger>("headlight", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::move(formatter));
  logger->set_level(ToSpdlog(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  gpr_set_log_function(LogForGrpc);
  google::protobuf::SetLogHandler(LogForProtobuf);
}

}  // namespace headlight
