// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
using ::testing::ElementsAre;
using ::testing::HasSubstr;

CliResult Estimate(const FakeServer& server, std::vector<std::string> words) {
  words.insert(words.begin(), {"estimate", "--server", server.target()});
  return RunHeadlight(words);
}

TEST(EstimateCommandTest, AsksWithShapesAlone) {
  FakeServer server;
  const CliResult result = Estimate(server, {"--model", "cross", "--shape", "2x100000", "--kv-shape", "2x7",
                                             "--dtype", "bf16", "--priority", "3"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const v1::AttendRequest request = server.requests().at(0);
  EXPECT_THAT(request.query().shape(), ElementsAre(2, 100'000, 4));
  EXPECT_EQ(request.query().dtype(), v1::DTYPE_BF16);
  EXPECT_THAT(request.key().shape(), ElementsAre(2, 7, 3));
  EXPECT_THAT(request.value().shape(), ElementsAre(2, 7, 2));
  EXPECT_EQ(request.payloads_size(), 0);
  EXPECT_EQ(request.priority(), 3);
  EXPECT_EQ(request.timeout_us(), 30'000'000);
  EXPECT_THAT(result.out, HasSubstr("projections  2 GFLOP\n"));
  EXPECT_THAT(result.out, HasSubstr("compute      5.000 ms  predicted\n"));
  EXPECT_THAT(result.out, HasSubstr("admitted     yes\n"));
}

TEST(EstimateCommandTest, AnEncoderIsAskedForIds) {
  FakeServer server;
  EXPECT_EQ(Estimate(server, {"--model", "encoder", "--seq-lens", "5,16", "--pooled"}).exit_code, 0);
  const v1::AttendRequest request = server.requests().at(0);
  EXPECT_THAT(request.token_ids().shape(), ElementsAre(21));
  EXPECT_THAT(request.seq_lens(), ElementsAre(5, 16));
  EXPECT_FALSE(request.has_query());
}

TEST(EstimateCommandTest, ARefusalIsAnAnswer) {
  FakeServer server;
  const CliResult result = Estimate(server, {"--shape", "1x1", "--timeout-ms", "6", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["projection_flops"], 2e9);
  EXPECT_EQ(json["compute_us"], 5000);
  EXPECT_EQ(json["admitted"], false);
  EXPECT_EQ(json["refusal"],
            nlohmann::json::parse(R"({"code": "RESOURCE_EXHAUSTED", "message": "the queue takes 2 ms",
                                                     "retry_delay_ms": 2, "reason": "behind_queue"})"));
}

TEST(EstimateCommandTest, ContradictionsAreWrongUsage) {
  FakeServer server;
  EXPECT_EQ(Estimate(server, {}).exit_code, 2);
  EXPECT_EQ(Estimate(server, {"--shape", "1x1", "--priority", "11"}).exit_code, 2);
  EXPECT_EQ(Estimate(server, {"--shape", "1x1", "--model", "none"}).exit_code, 1);
}

}  // namespace
}  // namespace headlight::client
