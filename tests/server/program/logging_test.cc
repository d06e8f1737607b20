// SPDX-License-Identifier: Apache-2.0
#include "server/program/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <string>

#include "server/observe/request_log.h"

namespace headlight {
namespace {

std::string LogOf(LogLevel level, LogFormat format, const std::string& message) {
  ::testing::internal::CaptureStderr();
  ConfigureLogging(level, format);
  spdlog::info("{}", message);
  spdlog::debug("details");
  spdlog::default_logger()->flush();
  const std::string log = ::testing::internal::GetCapturedStderr();
  ConfigureLogging(LogLevel::kInfo, LogFormat::kText);
  return log;
}

TEST(LoggingTest, TextHasTimeLevelAndMessage) {
  EXPECT_THAT(LogOf(LogLevel::kInfo, LogFormat::kText, "listening on 127.0.0.1:1"),
              ::testing::MatchesRegex("[-0-9]+T[:.0-9]+Z info  listening on 127\\.0\\.0\\.1:1\n"));
}

TEST(LoggingTest, JsonIsOneObjectALineWhateverTheMessage) {
  const std::string log = LogOf(LogLevel::kInfo, LogFormat::kJson, "a \"quote\"\nand \xff");
  const auto object = nlohmann::json::parse(log);
  EXPECT_EQ(object["level"], "info");
  EXPECT_EQ(object["message"], "a \"quote\"\nand \xef\xbf\xbd");
  EXPECT_THAT(object["time"].get<std::string>(), ::testing::MatchesRegex("[-0-9]+T[:.0-9]+Z"));
  EXPECT_EQ(object.size(), 3u);
}

TEST(LoggingTest, ARequestIsAnObjectOfItsFields) {
  ::testing::internal::CaptureStderr();
  ConfigureLogging(LogLevel::kDebug, LogFormat::kJson);
  RequestRecord record;
  record.method = "Attend";
  record.tokens = 16;
  RequestLog({RequestLogForm::kJson}, {}).Emit(record);
  spdlog::default_logger()->flush();
  const auto object = nlohmann::json::parse(::testing::internal::GetCapturedStderr());
  ConfigureLogging(LogLevel::kInfo, LogFormat::kText);
  EXPECT_EQ(object["level"], "info");
  EXPECT_EQ(object["message"], "request");
  EXPECT_EQ(object["request"]["method"], "Attend");
  EXPECT_EQ(object["request"]["tokens"], 16);
}

TEST(LoggingTest, TheLevelFilters) {
  EXPECT_EQ(LogOf(LogLevel::kError, LogFormat::kText, "quiet"), "");
  EXPECT_THAT(LogOf(LogLevel::kDebug, LogFormat::kText, "loud"), ::testing::HasSubstr("details"));
}

TEST(LoggingTest, TheLevelMayChangeLater) {
  ::testing::internal::CaptureStderr();
  ConfigureLogging(LogLevel::kWarn, LogFormat::kText);
  spdlog::info("before");
  SetLogLevel(LogLevel::kInfo);
  spdlog::info("between");
  SetLogLevel(LogLevel::kError);
  spdlog::warn("after");
  spdlog::default_logger()->flush();
  const std::string log = ::testing::internal::GetCapturedStderr();
  ConfigureLogging(LogLevel::kInfo, LogFormat::kText);
  EXPECT_THAT(log, ::testing::HasSubstr("between"));
  EXPECT_THAT(
      log, ::testing::Not(::testing::AnyOf(::testing::HasSubstr("before"), ::testing::HasSubstr("after"))));
}

}  // namespace
}  // namespace headlight
