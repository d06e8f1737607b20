// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/cli/run_cli.h"
#include "tests/client/fake_server.h"
#include "tests/client/restarted_server.h"
#include "tests/testing/temp_folder.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::CliResult;
using ::headlight::testing::FakeServer;
using ::headlight::testing::RestartedServer;
using ::headlight::testing::RunHeadlight;
using ::headlight::testing::TempFolder;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

// A short load test.
CliResult Loadtest(const FakeServer& server, std::vector<std::string> words) {
  words.insert(words.begin(),
               {"loadtest", "--server", server.target(), "--warmup", "20ms", "--duration", "200ms"});
  return RunHeadlight(words);
}

TEST(LoadtestCommandTest, PrintsAReport) {
  FakeServer server;
  const CliResult result = Loadtest(server, {"--shape", "2x3", "--concurrency", "3", "--channels", "2"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("model demo, version 1\n"));
  EXPECT_THAT(result.out, HasSubstr("each query [2, 3, 4], 6 tokens, "));
  EXPECT_THAT(result.out, HasSubstr("; 2 connections\n"));
  EXPECT_THAT(result.out, HasSubstr("3 in flight for 0.2 s\n"));
  EXPECT_THAT(result.out, HasSubstr("latency, ms"));
}

TEST(LoadtestCommandTest, EachChannelIsAConnection) {
  FakeServer server;
  const CliResult result = Loadtest(server, {"--shape", "1x1", "--concurrency", "80", "--channels", "80"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("; 80 connections\n"));
  EXPECT_THAT(server.peers(), SizeIs(80));
}

TEST(LoadtestCommandTest, AnEncoderGetsIds) {
  FakeServer server;
  const CliResult result =
      Loadtest(server, {"--model", "encoder", "--shape", "2x3", "--pooled", "--json", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["request"]["input"], "token_ids");
  EXPECT_EQ(json["request"]["shape"], nlohmann::json({2, 3}));
  EXPECT_EQ(json["request"]["mean_tokens"], 6);
  EXPECT_EQ(server.requests()[0].pooling(), v1::POOLING_MODE_MODEL);
}

TEST(LoadtestCommandTest, JsonGoesToStandardOutputOrBesideTheText) {
  FakeServer server;
  const CliResult to_out = Loadtest(
      server, {"--seq-lens", "5,16,9", "--causal", "--weights", "mean", "--concurrency", "2", "--json", "-"});
  EXPECT_EQ(to_out.exit_code, 0) << to_out.err;
  const auto json = nlohmann::json::parse(to_out.out);
  EXPECT_EQ(json["request"]["mean_tokens"], 30);
  EXPECT_EQ(json["connections"], 2);
  EXPECT_GT(json["runs"][0]["replies"], 0);
  const v1::AttendRequest request = server.requests()[0];
  EXPECT_TRUE(request.causal());
  EXPECT_EQ(request.weights().mode(), v1::WEIGHTS_MODE_MEAN);
  EXPECT_EQ(request.seq_lens_size(), 3);

  const std::string path = ::testing::TempDir() + "headlight_loadtest.json";
  const CliResult to_file = Loadtest(server, {"--shape", "1x1", "--json", path});
  EXPECT_EQ(to_file.exit_code, 0) << to_file.err;
  EXPECT_THAT(to_file.out, StartsWith("target "));
  std::ifstream file(path);
  EXPECT_EQ(nlohmann::json::parse(file)["runs"][0]["measured_s"], 0.2);
  std::filesystem::remove(path);
}

TEST(LoadtestCommandTest, EndsWithOneIfNoRequestSucceeded) {
  FakeServer server([](grpc::ServerContext&, const v1::AttendRequest&, v1::AttendResponse&) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full");
  });
  const CliResult result = Loadtest(server, {"--shape", "1x1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("RESOURCE_EXHAUSTED: the queue is full\n"));
}

TEST(LoadtestCommandTest, AnswersThatAreNoTextCostNoReport) {
  FakeServer server([](grpc::ServerContext&, const v1::AttendRequest&, v1::AttendResponse&) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full \xff\x1b[2J");
  });
  const CliResult json = Loadtest(server, {"--shape", "1x1", "--json", "-"});
  EXPECT_EQ(json.exit_code, 1) << json.err;
  EXPECT_EQ(nlohmann::json::parse(json.out)["runs"][0]["refusals"]["RESOURCE_EXHAUSTED"]["example"],
            "full \xef\xbf\xbd\x1b[2J");
  EXPECT_THAT(Loadtest(server, {"--shape", "1x1"}).out, HasSubstr("full \\xff\\x1b[2J\n"));
}

TEST(LoadtestCommandTest, AStepOfTheRateIsSeenInTheTimeline) {
  FakeServer server;
  const CliResult result = Loadtest(
      server, {"--model", "encoder", "--pooled", "--seq-lens", "uniform:8-256", "--rate", "100", "--arrivals",
               "constant", "--rate-step", "100ms=400", "--timeline", "100ms", "--json", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["rate_steps"], nlohmann::json::parse(R"([{"t_s": 0.1, "rate": 400.0}])"));
  const auto& run = json["runs"][0];
  EXPECT_EQ(run["timeline_bin_s"], 0.1);
  // 20 ms of warm-up and 100 ms at 100/s, then 100 ms at 400/s; those at the edges fall on either side.
  EXPECT_NEAR(run["sent"].get<int>() + run["unsent"].get<int>(), 50, 2);
  EXPECT_GT(run["goodput_tokens_per_s"], 0);
}

TEST(LoadtestCommandTest, AStepWantsOneLoopAndOneRate) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--rate-step", "1s=5"},
        {"--rate-step", "1s=5", "--rate", "5", "--search", "p99_ms=5"},
        {"--rate-step", "1s=5", "--concurrency", "3"}}) {
    std::vector<std::string> all = {"loadtest", "--shape", "1x1"};
    all.insert(all.end(), words.begin(), words.end());
    EXPECT_EQ(RunHeadlight(all).exit_code, 2);
  }
}

// What Loadtest ends with when every second request fails with `code`.
int ExitCodeWithEverySecond(grpc::StatusCode code, std::string& out) {
  std::atomic<int> calls = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        return ++calls % 2 == 0 ? grpc::Status(code, "no") : FakeServer::Echo(context, request, response);
      });
  const CliResult result = Loadtest(server, {"--shape", "1x1"});
  out = result.out;
  return result.exit_code;
}

TEST(LoadtestCommandTest, RefusalsOfLoadAreAResultAndOtherFailuresAreToldApart) {
  std::string out;
  EXPECT_EQ(ExitCodeWithEverySecond(grpc::StatusCode::RESOURCE_EXHAUSTED, out), 0);
  EXPECT_THAT(out, HasSubstr("RESOURCE_EXHAUSTED: no\n"));
  EXPECT_EQ(ExitCodeWithEverySecond(grpc::StatusCode::UNAVAILABLE, out), 3);
  EXPECT_THAT(out, HasSubstr("UNAVAILABLE: no\n"));
}

TEST(LoadtestCommandTest, ARestartOfTheServerIsToldApartAndRepliesResume) {
  const TempFolder folder;
  RestartedServer server(300ms);
  // Bins of a second: the first one has the restart, which is over well before the last one begins.
  const CliResult result = RunHeadlight({"loadtest", "--server", server.target(), "--shape", "1x1", "--rate",
                                         "200", "--arrivals", "constant", "--channels", "2", "--warmup", "0s",
                                         "--duration", "2500ms", "--json", folder.File("report.json")});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.out, ContainsRegex("refused +[1-9]"));
  EXPECT_THAT(result.out, ContainsRegex(" [1-9][0-9]* UNAVAILABLE: "));
  const auto json = nlohmann::json::parse(folder.Read("report.json"));
  const auto& run = json["runs"][0];
  EXPECT_EQ(json["interrupted"], false);
  EXPECT_GT(run["refusals"]["UNAVAILABLE"]["count"], 0);
  EXPECT_EQ(run["sent"], 500);
  EXPECT_EQ(run["replies"].get<int>() + run["refused"].get<int>(), 500);
  ASSERT_GE(run["timeline"].size(), 3u);
  EXPECT_GT(run["timeline"].front()["replies"], 0);
  EXPECT_GT(run["timeline"].front()["refused"].get<int>() + run["timeline"][1]["refused"].get<int>(), 0);
  EXPECT_GT(run["timeline"][2]["replies"], 0);
  EXPECT_EQ(run["timeline"][2]["refused"], 0);
}

TEST(LoadtestCommandTest, SweepsConcurrenciesAndRates) {
  FakeServer server;
  const CliResult closed = Loadtest(server, {"--shape", "1x1", "--concurrency", "1,3", "--json", "-"});
  EXPECT_EQ(closed.exit_code, 0) << closed.err;
  const auto closed_json = nlohmann::json::parse(closed.out);
  ASSERT_THAT(closed_json["runs"], SizeIs(2));
  EXPECT_EQ(closed_json["runs"][1]["concurrency"], 3);
  EXPECT_EQ(closed_json["arrivals"], nullptr);

  const CliResult open = RunHeadlight({"loadtest", "--server", server.target(), "--seq-lens", "uniform:1-5",
                                       "--rate", "500,1000", "--arrivals", "constant", "--warmup", "0s",
                                       "--count", "20", "--timeouts", "5000,9000", "--json", "-"});
  EXPECT_EQ(open.exit_code, 0) << open.err;
  const auto json = nlohmann::json::parse(open.out);
  EXPECT_EQ(json["arrivals"], "constant");
  EXPECT_EQ(json["request"]["seq_lens"], "uniform:1-5");
  EXPECT_EQ(json["timeouts_ms"], nlohmann::json({5000, 9000}));
  ASSERT_THAT(json["runs"], SizeIs(2));
  for (const auto& run : json["runs"]) {
    EXPECT_EQ(run["loop"], "open");
    EXPECT_EQ(run["replies"], 20);
  }
  EXPECT_EQ(json["runs"][1]["rate"], 1000);
}

TEST(LoadtestCommandTest, SearchesForTheHighestRate) {
  FakeServer server([](grpc::ServerContext&, const v1::AttendRequest&, v1::AttendResponse&) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "never");
  });
  const CliResult result =
      RunHeadlight({"loadtest", "--server", server.target(), "--shape", "1x1", "--search", "p99_ms=50",
                    "--rate", "1000", "--warmup", "0s", "--count", "1", "--json", "-"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["search"]["goal"], "p99_ms");
  EXPECT_EQ(json["search"]["best_rate"], nullptr);
  EXPECT_EQ(json["search"]["steps"][0]["rate"], 1000);
  EXPECT_EQ(json["search"]["steps"].size(), json["runs"].size());
}

TEST(LoadtestCommandTest, ASearchEndsWithTheHighestRateThatMeetsItsGoal) {
  // Of the rates, which have a request each, only the second one is too much.
  std::atomic<int> calls = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        if (++calls == 2) std::this_thread::sleep_for(1100ms);
        return FakeServer::Echo(context, request, response);
      });
  const TempFolder folder;
  const CliResult result = RunHeadlight({"loadtest", "--server", server.target(), "--shape", "1x1",
                                         "--search", "p99_ms=1000", "--rate", "1000", "--warmup", "0s",
                                         "--count", "1", "--json", folder.File("report.json")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              HasSubstr("\nsearch  1915 requests/s is the highest rate found to meet p99_ms of 1000\n"));
  const auto json = nlohmann::json::parse(folder.Read("report.json"));
  const auto& search = json["search"];
  EXPECT_EQ(search["limit_ms"], 1000);
  // Halfway, as ratios go, from the best rate to 2000, until these are within 5 %: 2^(1/2), 2^(3/4), ...
  const double wanted[] = {1000, 2000, 1414.2, 1681.8, 1834.0, 1915.2};
  ASSERT_THAT(search["steps"], SizeIs(std::size(wanted)));
  ASSERT_THAT(json["runs"], SizeIs(std::size(wanted)));
  for (size_t i = 0; i < std::size(wanted); ++i) {
    const auto& step = search["steps"][i];
    EXPECT_NEAR(step["rate"].get<double>(), wanted[i], 0.1);
    EXPECT_EQ(step["met"], i != 1) << step;
    EXPECT_EQ(step["value_ms"].get<double>() <= 1000, i != 1) << step;
    EXPECT_EQ(json["runs"][i]["rate"], step["rate"]);
  }
  EXPECT_EQ(search["best_rate"], search["steps"].back()["rate"]);
}

TEST(LoadtestCommandTest, WritesCsvAndHtmlAndComparesReports) {
  FakeServer server;
  const std::string path = ::testing::TempDir() + "headlight_loadtest_files";
  const CliResult result = Loadtest(
      server, {"--shape", "1x1", "--json", path + ".json", "--csv", path + ".csv", "--html", path + ".html"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, ::testing::IsEmpty());  // no progress line in pipes
  std::string line;
  std::ifstream csv(path + ".csv");
  std::getline(csv, line);
  EXPECT_THAT(line, StartsWith("model,arrivals,loop,"));
  std::ifstream html(path + ".html");
  std::getline(html, line);
  EXPECT_THAT(line, StartsWith("<!"));
  const CliResult compared = RunHeadlight({"loadtest", "--compare", path + ".json", path + ".json"});
  EXPECT_EQ(compared.exit_code, 0) << compared.err;
  EXPECT_THAT(compared.out, HasSubstr("8 in flight\n"));
  EXPECT_THAT(compared.out, HasSubstr("1.000\n"));
  const CliResult wrong = RunHeadlight({"loadtest", "--compare", path + ".json", path + ".csv"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("wanted a report of headlight-loadtest/1"));
  for (const char* ending : {".json", ".csv", ".html"}) std::filesystem::remove(path + ending);
}

// A handler that interrupts this process, which is the tester's too, at its 50th request.
FakeServer::AttendHandler EchoAndPressCtrlC() {
  return [calls = std::make_shared<std::atomic<int>>(0)](
             grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
    if (++*calls == 50) std::raise(SIGINT);
    return FakeServer::Echo(context, request, response);
  };
}

TEST(LoadtestCommandTest, CtrlCPrintsWhatWasGathered) {
  FakeServer server(EchoAndPressCtrlC());
  const CliResult result = RunHeadlight({"loadtest", "--server", server.target(), "--shape", "1x1",
                                         "--warmup", "0s", "--duration", "10m", "--json", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["interrupted"], true);
  EXPECT_GT(json["runs"][0]["replies"], 0);
  EXPECT_LT(json["runs"][0]["measured_s"], 600);
}

TEST(LoadtestCommandTest, CtrlCPrintsTheTextAndWritesTheFiles) {
  FakeServer server(EchoAndPressCtrlC());
  const TempFolder folder;
  const CliResult result =
      RunHeadlight({"loadtest", "--server", server.target(), "--shape", "1x1", "--concurrency", "2,4",
                    "--warmup", "0s", "--duration", "10m", "--json", folder.File("report.json")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("warm-up  0.0 s; interrupted\n"));
  EXPECT_THAT(result.out, HasSubstr("2 in flight for "));
  EXPECT_THAT(result.out, ContainsRegex("replies +[1-9]"));
  const auto json = nlohmann::json::parse(folder.Read("report.json"));
  EXPECT_EQ(json["interrupted"], true);
  ASSERT_THAT(json["runs"], SizeIs(1));  // the second one has not begun
  EXPECT_GT(json["runs"][0]["replies"], 0);
}

TEST(LoadtestCommandTest, FlagsThatContradictThemselves) {
  FakeServer server;
  const struct {
    std::vector<std::string> words;
    const char* reason;
  } cases[] = {
      {{"--rate", "10", "--concurrency", "2"}, "excludes"},
      {{"--search", "p99_ms=5", "--concurrency", "2"}, "excludes"},
      {{"--search", "p99_ms=5", "--rate", "1,2"}, "--rate: got 2 rates, wanted one"},
      {{"--json", "-", "--csv", "-"}, "got - more than once"},
      {{"--count", "5"}, "excludes"},
      {{"--cancel-ratio", "1.5"}, "--cancel-ratio"},
      {{"--compare", "one.json"}, "--compare"},
      {{"--arrivals", "bursts"}, "--arrivals: got 'bursts', wanted poisson or constant"},
      {{"--shape", "1x4", "--seq-lens", "uniform:1-5"}, "wanted at most the 4 of --shape"},
  };
  for (const auto& [words, reason] : cases) {
    std::vector<std::string> all = {"--shape", "1x1"};
    if (words[0] == "--shape") all.clear();
    all.insert(all.end(), words.begin(), words.end());
    const CliResult result = Loadtest(server, all);
    EXPECT_EQ(result.exit_code, 2) << reason;
    EXPECT_THAT(result.err, HasSubstr(reason));
    EXPECT_EQ(result.out, "");
  }
}

TEST(LoadtestCommandTest, WrongUsageAndFailures) {
  FakeServer server;
  const CliResult no_query = Loadtest(server, {});
  EXPECT_EQ(no_query.exit_code, 2);
  EXPECT_THAT(no_query.err, HasSubstr("nothing says what the query is"));
  const CliResult unknown_model = Loadtest(server, {"--shape", "1x1", "--model", "none"});
  EXPECT_EQ(unknown_model.exit_code, 1);
  EXPECT_THAT(unknown_model.err, StartsWith("headlight: NOT_FOUND: model: got 'none'"));
  const CliResult unwritable =
      Loadtest(server, {"--shape", "1x1", "--json", "/no/such/directory/report.json"});
  EXPECT_EQ(unwritable.exit_code, 1);
  EXPECT_EQ(unwritable.err,
            "headlight: UNAVAILABLE: /no/such/directory/report.json: cannot be written: No such file or "
            "directory\n");
}

}  // namespace
}  // namespace headlight::client
