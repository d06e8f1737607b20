// SPDX-License-Identifier: Apache-2.0
//
// The admin port of the real program: what a kubelet, Prometheus and a person with a terminal find there,
// from the start to the drain; and the lines that requests leave in the log.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/server.h"
#include "tests/e2e/server_process.h"
#include "tests/server/observe/http_get.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/subprocess.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using testing::BodyOf;
using ::testing::HasSubstr;
using testing::HttpGet;
using testing::IsOk;
using ::testing::Not;
using testing::RunProgram;
using testing::RunResult;
using ::testing::StartsWith;
using testing::StatusIs;
using namespace std::chrono_literals;
using e2e::ServerProcess;

constexpr char kTraceId[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kSpanId[] = "00f067aa0ba902b7";

RunResult Attend(const ServerProcess& server, std::vector<std::string> more = {}) {
  std::vector<std::string> argv = {
      HEADLIGHT_CLIENT_PROGRAM, "attend", "--server", server.address(), "--model", "demo", "--shape", "1x5"};
  argv.insert(argv.end(), more.begin(), more.end());
  return RunProgram(argv);
}

// The access-log entry of the request `id`, once it is there; null: it did not come.
nlohmann::json LogEntryOf(ServerProcess& server, const std::string& id) {
  for (int i = 0; i < 500; ++i) {
    const std::string output = server.process().Output();
    for (const auto line : absl::StrSplit(output, '\n')) {
      const auto entry = nlohmann::json::parse(std::string(line), nullptr, /*allow_exceptions=*/false);
      if (entry.is_object() && entry.contains("request") && entry["request"].value("id", "") == id)
        return entry;
    }
    std::this_thread::sleep_for(10ms);
  }
  return nullptr;
}

TEST(AdminTest, ProbesAndPagesOfAServerThatServes) {
  ServerProcess server;
  const int port = server.AdminPort();
  EXPECT_THAT(HttpGet(port, "/livez"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(HttpGet(port, "/readyz"), StartsWith("HTTP/1.1 200 "));
  const auto models = nlohmann::json::parse(BodyOf(HttpGet(port, "/models")));
  EXPECT_EQ(models["models"][0]["name"], "demo");
  EXPECT_EQ(models["models"][0]["state"], "serving");

  const RunResult answered = Attend(server);
  EXPECT_EQ(answered.exit_code, 0) << answered.output;
  EXPECT_EQ(Attend(server, {"--weights", "full", "--heads", "99"}).exit_code, 1);
  EXPECT_THAT(
      HttpGet(port, "/metrics"),
      AllOf(HasSubstr("headlight_requests_total{code=\"OK\",method=\"Attend\",model=\"demo\"} 1\n"),
            HasSubstr(
                "headlight_requests_total{code=\"INVALID_ARGUMENT\",method=\"Attend\",model=\"demo\"} 1\n"),
            HasSubstr("headlight_tokens_total{model=\"demo\"} 5\n"), HasSubstr("headlight_ready 1\n"),
            HasSubstr("headlight_memory_held_bytes{kind=\"model\"}"), HasSubstr("headlight_build_info{"),
            HasSubstr("headlight_connections_accepted_total 2\n"),
            HasSubstr("headlight_connections_refused_total{reason=\"abuse\"} 0\n")));
  EXPECT_THAT(HttpGet(port, "/"),
              AllOf(HasSubstr("<td>demo</td>"), HasSubstr("INVALID_ARGUMENT"), HasSubstr("<h2>Limits")));
}

TEST(AdminTest, PrometheusHasNothingToSayAgainstTheMetrics) {
  if (RunProgram({"/bin/sh", "-c", "command -v promtool"}).exit_code != 0) {
    GTEST_SKIP() << "promtool is not here (Debian's package prometheus)";
  }
  ServerProcess server;
  const int port = server.AdminPort();
  EXPECT_EQ(Attend(server).exit_code, 0);
  const testing::TempFolder folder;
  const std::string file = folder.Write("metrics", BodyOf(HttpGet(port, "/metrics")));
  const RunResult check = RunProgram({"/bin/sh", "-c", "promtool check metrics < " + file});
  EXPECT_EQ(check.exit_code, 0) << check.output;
  EXPECT_EQ(check.output, "");
}

TEST(AdminTest, NotReadyBeforeModelsAreLoadedNorOnceItDrains) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.threads = 1;
  // Start does not return before models are loaded, and only then tells a port that it has picked.
  {
    auto free = HeadlightServer::Start([&] {
      ServerOptions any = options;
      any.admin_listen = "127.0.0.1:0";
      return any;
    }());
    ASSERT_THAT(free, IsOk());
    options.admin_listen = "127.0.0.1:" + std::to_string((*free)->admin_port());
  }
  options.admin_listen_given = true;
  options.lame_duck_s = 1;
  int port = 0;
  ASSERT_TRUE(absl::SimpleAtoi(options.admin_listen.substr(options.admin_listen.find(':') + 1), &port));
  std::string while_loading;
  std::string alive_while_loading;
  auto server = HeadlightServer::Start(options, nullptr, /*before_serving=*/[&] {
    while_loading = HttpGet(port, "/readyz");
    alive_while_loading = HttpGet(port, "/livez");
  });
  ASSERT_THAT(server, IsOk());
  EXPECT_THAT(while_loading, AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("\r\n\r\nstarting")));
  EXPECT_THAT(alive_while_loading, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(HttpGet(port, "/readyz"), StartsWith("HTTP/1.1 200 "));
  std::thread shutdown([&] { EXPECT_THAT((*server)->Shutdown(), IsOk()); });
  std::string answer;
  for (int i = 0; i < 90 && answer.find("503") == std::string::npos; ++i) {
    answer = HttpGet(port, "/readyz");
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("draining"))) << "in the lame duck's time";
  shutdown.join();
  EXPECT_THAT(HttpGet(port, "/livez"), StartsWith("HTTP/1.1 200 ")) << "as long as the process is there";
}

TEST(AdminTest, OnlyAnAddressThatWasAskedForMustWork) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.threads = 1;
  options.admin_listen = "127.0.0.1:0";
  auto first = HeadlightServer::Start(options);
  ASSERT_THAT(first, IsOk());
  options.admin_listen = "127.0.0.1:" + std::to_string((*first)->admin_port());
  auto second = HeadlightServer::Start(options);
  ASSERT_THAT(second, IsOk());
  EXPECT_EQ((*second)->admin_port(), 0);
  options.admin_listen_given = true;
  EXPECT_THAT(HeadlightServer::Start(options),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("--admin-listen: cannot listen on")));
  options.admin_listen.clear();
  auto none = HeadlightServer::Start(options);
  ASSERT_THAT(none, IsOk());
  EXPECT_EQ((*none)->admin_port(), 0);
}

TEST(AdminTest, ARequestIsALineOfTheLogAndPartOfItsTrace) {
  ServerProcess server({"--log-format", "json"});
  const std::string traceparent = std::string("00-") + kTraceId + "-" + kSpanId + "-01";
  const RunResult run = Attend(server, {"--request-id", "traced", "--traceparent", traceparent});
  ASSERT_EQ(run.exit_code, 0) << run.output;
  const nlohmann::json entry = LogEntryOf(server, "traced");
  ASSERT_TRUE(entry.is_object());
  EXPECT_EQ(entry["level"], "info");
  const nlohmann::json& request = entry["request"];
  EXPECT_EQ(request["method"], "Attend");
  EXPECT_EQ(request["model"], "demo");
  EXPECT_EQ(request["version"], "1");
  EXPECT_EQ(request["code"], "OK");
  EXPECT_EQ(request["tokens"], 5);
  EXPECT_GT(request["compute_us"], 0);
  EXPECT_EQ(request["parent_span"], kSpanId);
  EXPECT_THAT(request["traceparent"].get<std::string>(),
              AllOf(StartsWith(std::string("00-") + kTraceId + "-"), Not(HasSubstr(kSpanId))));

  EXPECT_EQ(Attend(server, {"--request-id", "refused", "--weights", "full", "--heads", "99"}).exit_code, 1);
  const nlohmann::json refused = LogEntryOf(server, "refused");
  ASSERT_TRUE(refused.is_object());
  EXPECT_EQ(refused["request"]["code"], "INVALID_ARGUMENT");
  EXPECT_FALSE(refused["request"].contains("traceparent"));

  const RunResult wrong = Attend(server, {"--traceparent", "00-\n-x"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.output, HasSubstr("traceparent: got \"00-\\n-x\", wanted 00-TRACE-SPAN-FLAGS"));
}

}  // namespace
}  // namespace headlight
