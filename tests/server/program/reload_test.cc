// SPDX-License-Identifier: Apache-2.0
//
// The level of the log; tokens, and all of it under load, are in tests/e2e/reload_test.cc.
#include "server/program/reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <string>
#include <vector>

#include "inference/grpc_service.pb.h"
#include "server/oip/server_settings.h"
#include "server/program/logging.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;

class ReloadLevelTest : public ::testing::Test {
 protected:
  ~ReloadLevelTest() override { ConfigureLogging(LogLevel::kInfo, LogFormat::kText); }

  // What the log says of a reload.
  std::string Run() {
    ::testing::internal::CaptureStderr();
    reload_.Run();
    spdlog::default_logger()->flush();
    return ::testing::internal::GetCapturedStderr();
  }

  static ServerOptions Parse(const std::vector<std::string>& arguments) {
    std::vector<const char*> argv;
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    const auto line = ParseCommandLine(static_cast<int>(argv.size()), argv.data());
    EXPECT_THAT(line, IsOk());
    return line->options;
  }

  const testing::TempFolder folder_;
  const std::string file_ = folder_.Write("server.toml", "log-level = \"warn\"\n");
  const std::vector<std::string> arguments_ = {"headlight-server", "--config", file_};
  Gate gate_;
  Reload reload_{arguments_, Parse(arguments_), gate_};
};

TEST_F(ReloadLevelTest, WhatACallerHasSetIsTheFilesAgain) {
  ConfigureLogging(LogLevel::kWarn, LogFormat::kText);
  for (const bool louder : {true, false}) {
    inference::LogSettingsRequest request;
    (*request.mutable_settings())[louder ? "log_info" : "log_warning"].set_bool_param(louder);
    ASSERT_THAT(ChangeLog(request), IsOk());
    ASSERT_FALSE(IsLogLevel(LogLevel::kWarn));
    EXPECT_THAT(Run(), HasSubstr("reload: option log-level = warn"));
    EXPECT_TRUE(IsLogLevel(LogLevel::kWarn));
  }
}

TEST_F(ReloadLevelTest, ALevelThatIsInForceIsNotToldAgain) {
  ConfigureLogging(LogLevel::kWarn, LogFormat::kText);
  EXPECT_THAT(Run(), Not(HasSubstr("log-level")));
  EXPECT_TRUE(IsLogLevel(LogLevel::kWarn));
}

TEST_F(ReloadLevelTest, AFileThatIsBrokenLeavesTheLevelInForce) {
  ConfigureLogging(LogLevel::kDebug, LogFormat::kText);
  folder_.Write("server.toml", "log-level = \n");
  EXPECT_THAT(Run(), HasSubstr("reload: the options stay as they were"));
  EXPECT_TRUE(IsLogLevel(LogLevel::kDebug));
}

}  // namespace
}  // namespace headlight
