// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/client/cli/run_cli.h"
#include "tests/client/fake_server.h"

namespace headlight::client {
namespace {

using ::headlight::testing::CliResult;
using ::headlight::testing::FakeServer;
using ::headlight::testing::RunHeadlight;
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
  EXPECT_THAT(result.out, HasSubstr("3 in flight over 2 connections; each query [2, 3, 4], 6 tokens, "));
  EXPECT_THAT(result.out, HasSubstr("0.2 s after 0.0 s of warm-up\n"));
  EXPECT_THAT(result.out, HasSubstr("latency "));
}

TEST(LoadtestCommandTest, AnEncoderGetsIds) {
  FakeServer server;
  const CliResult result =
      Loadtest(server, {"--model", "encoder", "--shape", "2x3", "--pooled", "--json", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["request"]["token_ids_shape"], nlohmann::json({2, 3}));
  EXPECT_EQ(json["request"]["tokens"], 6);
  EXPECT_EQ(server.requests()[0].pooling(), v1::POOLING_MODE_MODEL);
}

TEST(LoadtestCommandTest, JsonGoesToStandardOutputOrBesideTheText) {
  FakeServer server;
  const CliResult to_out = Loadtest(
      server, {"--seq-lens", "5,16,9", "--causal", "--weights", "mean", "--concurrency", "2", "--json", "-"});
  EXPECT_EQ(to_out.exit_code, 0) << to_out.err;
  const auto json = nlohmann::json::parse(to_out.out);
  EXPECT_EQ(json["request"]["tokens"], 30);
  EXPECT_EQ(json["connections"], 2);
  EXPECT_GT(json["replies"], 0);
  const v1::AttendRequest request = server.requests()[0];
  EXPECT_TRUE(request.causal());
  EXPECT_EQ(request.weights().mode(), v1::WEIGHTS_MODE_MEAN);
  EXPECT_EQ(request.seq_lens_size(), 3);

  const std::string path = ::testing::TempDir() + "headlight_loadtest.json";
  const CliResult to_file = Loadtest(server, {"--shape", "1x1", "--json", path});
  EXPECT_EQ(to_file.exit_code, 0) << to_file.err;
  EXPECT_THAT(to_file.out, StartsWith("target "));
  std::ifstream file(path);
  EXPECT_EQ(nlohmann::json::parse(file)["duration_s"], 0.2);
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

TEST(LoadtestCommandTest, SomeRefusalsAreNoFailure) {
  std::atomic<int> calls = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        return ++calls % 2 == 0 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining")
                                : FakeServer::Echo(context, request, response);
      });
  const CliResult result = Loadtest(server, {"--shape", "1x1"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("UNAVAILABLE: draining\n"));
}

TEST(LoadtestCommandTest, CtrlCPrintsWhatWasGathered) {
  std::atomic<int> calls = 0;
  FakeServer server(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        if (++calls == 50) std::raise(SIGINT);
        return FakeServer::Echo(context, request, response);
      });
  const CliResult result = RunHeadlight({"loadtest", "--server", server.target(), "--shape", "1x1",
                                         "--warmup", "0s", "--duration", "10m", "--json", "-"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["interrupted"], true);
  EXPECT_GT(json["replies"], 0);
  EXPECT_LT(json["measured_s"], 600);
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
  EXPECT_EQ(unwritable.err, "headlight: UNAVAILABLE: /no/such/directory/report.json: cannot be written\n");
}

}  // namespace
}  // namespace headlight::client
