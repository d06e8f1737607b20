// SPDX-License-Identifier: Apache-2.0
//
// SIGHUP to a server that is busy: new tokens hold, broken files change nothing, the log level follows its
// file, and no request fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "server/security/token_file.h"
#include "tests/e2e/server_process.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using e2e::ServerProcess;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::chrono::seconds kPatience{60};
constexpr int kNumReloads = 50;
constexpr char kSteadyToken[] = "the token that stays";

std::string Entry(const std::string& name, const std::string& token) {
  TokenTerms terms;
  terms.name = terms.tenant = name;
  terms.sha256 = HashToken(token);
  return WriteToken(terms);
}

class ReloadTest : public ::testing::Test {
 protected:
  ReloadTest() {
    WriteTokens(Entry("steady", kSteadyToken));
    folder_.Write("server.toml", "log-level = \"info\"\n");
  }

  // Whole at once, as an operator should.
  void WriteTokens(const std::string& text) {
    std::filesystem::rename(folder_.Write("next.toml", text), folder_.File("tokens.toml"));
  }

  std::vector<std::string> Flags() const {
    return {"--threads",
            "1",
            "--tokens",
            folder_.File("tokens.toml"),
            "--allow-plaintext",
            "--config",
            folder_.File("server.toml")};
  }

  static grpc::Status Attend(v1::AttentionService::Stub& stub, const std::string& token) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    context.AddMetadata("authorization", "Bearer " + token);
    v1::AttendResponse response;
    return stub.Attend(&context, testing::MakeRequest("demo", {1, 2, 768}), &response);
  }

  static bool Eventually(const std::function<bool()>& happens) {
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!happens() && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return happens();
  }

  const testing::TempFolder folder_;
};

TEST_F(ReloadTest, FiftyTimesUnderLoadWithoutAFailure) {
  ServerProcess server(Flags());
  const auto stub = v1::AttentionService::NewStub(
      grpc::CreateChannel(server.address(), grpc::InsecureChannelCredentials()));
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0};
  std::thread caller([&] {
    while (!stop) failed += Attend(*stub, kSteadyToken).ok() ? 0 : 1;
  });
  for (int i = 0; i < kNumReloads; ++i) {
    const std::string token = absl::StrCat("a token of its time ", i);
    WriteTokens(Entry("steady", kSteadyToken) + Entry(absl::StrCat("n", i), token));
    server.process().Signal(SIGHUP);
    EXPECT_TRUE(Eventually([&] { return Attend(*stub, token).ok(); })) << i;
  }
  stop = true;
  caller.join();
  EXPECT_EQ(failed, 0);
  const std::string log = server.process().Output();
  EXPECT_THAT(log, HasSubstr("2 tokens: 1 added (\"n1\"), 1 removed (\"n0\")"));
  EXPECT_THAT(log, Not(HasSubstr(ToHex(HashToken(kSteadyToken)))));
  EXPECT_THAT(log, Not(HasSubstr(kSteadyToken)));
}

TEST_F(ReloadTest, ABrokenFileChangesNothingAndIsTold) {
  ServerProcess server(Flags());
  const auto stub = v1::AttentionService::NewStub(
      grpc::CreateChannel(server.address(), grpc::InsecureChannelCredentials()));
  WriteTokens(Entry("steady", kSteadyToken) + "[[token]]\nname = \n");
  server.process().Signal(SIGHUP);
  EXPECT_NE(server.process().WaitForOutput("reload: the tokens stay as they were: ", kPatience), "");
  EXPECT_THAT(server.process().Output(), HasSubstr("tokens.toml:6: got no TOML"));
  EXPECT_TRUE(Attend(*stub, kSteadyToken).ok());
  std::filesystem::remove(folder_.File("tokens.toml"));
  server.process().Signal(SIGHUP);
  EXPECT_TRUE(Eventually([&] {
    return server.process().Output().find("tokens.toml\": ") != std::string::npos ||
           server.process().Output().find("tokens.toml: ") != std::string::npos;
  }));
  EXPECT_TRUE(Attend(*stub, kSteadyToken).ok());
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(kPatience), 0);
}

TEST_F(ReloadTest, TheLogLevelFollowsItsFile) {
  ServerProcess server(Flags());
  folder_.Write("server.toml", "log-level = \"debug\"\nqueue-max-requests = 7\n");
  server.process().Signal(SIGHUP);
  EXPECT_EQ(server.process().WaitForOutput("reload: option log-level = ", kPatience), "debug");
  EXPECT_NE(server.process().WaitForOutput("reload: option queue-max-requests = 7 now; it takes", kPatience),
            "");
}

TEST_F(ReloadTest, SignalsBeforeItServesDoNotEndIt) {
  testing::Subprocess server(
      {HEADLIGHT_SERVER_PROGRAM, "--listen", "127.0.0.1:0", "--admin-listen", "", "--threads", "1"});
  EXPECT_NE(server.WaitForOutput("option listen", kPatience), "");
  server.Signal(SIGHUP);
  server.Signal(SIGPIPE);
  EXPECT_NE(server.WaitForOutput("listening on ", kPatience), "");
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(kPatience), 0);
}

}  // namespace
}  // namespace headlight
