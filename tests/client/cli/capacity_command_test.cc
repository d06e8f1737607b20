// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/cli/run_cli.h"
#include "tests/client/fake_server.h"

namespace headlight::client {
namespace {

using ::headlight::testing::CliResult;
using ::headlight::testing::FakeServer;
using ::headlight::testing::RunHeadlight;
using ::testing::HasSubstr;
using ::testing::Not;

CliResult Capacity(const FakeServer& server, std::vector<std::string> words) {
  words.insert(words.begin(),
               {"capacity", "--server", server.target(), "--measure", "1s", "--requests", "2000"});
  return RunHeadlight(words);
}

// A server that computes one request after the other, each for 2 ms.
grpc::Status OneByOne(grpc::ServerContext& context, const v1::AttendRequest& request,
                      v1::AttendResponse& response) {
  static std::mutex computing;
  const std::lock_guard lock(computing);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  grpc::Status status = FakeServer::Echo(context, request, response);
  v1::TimeBudget& budget = *response.mutable_time_budget();
  budget.set_pack_us(0);
  budget.set_compute_us(2000);
  budget.set_unpack_us(0);
  budget.set_queue_us(0);
  budget.set_batch_requests(1);
  budget.set_batch_tokens(1);
  return status;
}

TEST(CapacityCommandTest, PlansForEachRate) {
  const FakeServer server(OneByOne);
  const CliResult result =
      Capacity(server, {"--shape", "1x1", "--rate", "5,2000", "--timeouts", "5000", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["schema"], "headlight-capacity/1");
  EXPECT_EQ(json["goal"]["limit_ms"], 5000);
  EXPECT_NEAR(json["measured"]["request_ms"].get<double>() + json["measured"]["batch_ms"].get<double>(), 2,
              0.01);
  ASSERT_EQ(json["plans"].size(), 2);
  EXPECT_EQ(json["plans"][0]["replicas"], 1);
  EXPECT_GE(json["plans"][1]["replicas"], 4);
  const auto& sizes = json["plans"][1]["sizes"];
  EXPECT_EQ(sizes.back()["replicas"].get<int>(), json["plans"][1]["replicas"].get<int>() + 1);
  EXPECT_EQ(sizes.back()["meets_goal"], true);
}

TEST(CapacityCommandTest, SaysInWordsWhatItTakes) {
  const FakeServer server(OneByOne);
  const CliResult result = Capacity(server, {"--shape", "1x1", "--rate", "20", "--goal", "p99_ms=10000"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out,
              HasSubstr("20 requests/s, 99 % of requests within 10000 ms, dealt random\nreplicas"));
  EXPECT_THAT(result.out, HasSubstr("1 replica, and 2 so that one may be lost or restarted\n"));
  EXPECT_THAT(result.err, Not(HasSubstr("note")));
}

TEST(CapacityCommandTest, AServerWithOtherWorkIsToldOf) {
  const FakeServer server;  // its batches are of two
  const CliResult result = Capacity(server, {"--shape", "1x1", "--rate", "20"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("the server computed for others meanwhile"));
}

TEST(CapacityCommandTest, AGoalOutOfReachHasAnExitCodeOfItsOwn) {
  const FakeServer server(OneByOne);
  const CliResult result = Capacity(server, {"--shape", "1x1", "--rate", "20", "--goal", "p99_ms=1"});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.out, HasSubstr("no number of replicas keeps 99 % of requests within 1 ms"));
  const CliResult few = Capacity(server, {"--shape", "1x1", "--rate", "2000", "--max-replicas", "2"});
  EXPECT_EQ(few.exit_code, 3) << few.err;
  EXPECT_THAT(few.out, HasSubstr("not met by --max-replicas 2\n"));
}

TEST(CapacityCommandTest, WhoAnswersNothingIsNotMeasured) {
  const FakeServer server([](grpc::ServerContext&, const v1::AttendRequest&, v1::AttendResponse&) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no room today");
  });
  const CliResult result = Capacity(server, {"--shape", "1x1", "--rate", "20"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("no room today"));
}

TEST(CapacityCommandTest, ContradictionsAreWrongUsage) {
  const FakeServer server;
  EXPECT_EQ(Capacity(server, {"--shape", "1x1"}).exit_code, 2);  // no rate
  EXPECT_EQ(Capacity(server, {"--rate", "20"}).exit_code, 2);    // no shape
  EXPECT_EQ(Capacity(server, {"--shape", "1x1", "--rate", "0"}).exit_code, 2);
  EXPECT_EQ(Capacity(server, {"--shape", "1x1", "--rate", "20", "--balancing", "fair"}).exit_code, 2);
  EXPECT_EQ(Capacity(server, {"--shape", "1x1", "--rate", "20", "--measure", "0s"}).exit_code, 2);
}

}  // namespace
}  // namespace headlight::client
