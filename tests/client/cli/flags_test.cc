// SPDX-License-Identifier: Apache-2.0
#include "client/cli/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::StartsWith;

constexpr auto kBadFlag = absl::StatusCode::kInvalidArgument;

TEST(FlagsTest, ShapesAreTwoPositiveNumbers) {
  const auto shape = ParseShape("2x16");
  ASSERT_THAT(shape, IsOk());
  EXPECT_THAT(*shape, ElementsAre(2, 16));
  for (const std::string wrong : {"", "2", "2x", "x16", "2x16x768", "0x16", "-2x16", "+2x16", "2X16", "2x 16",
                                  "2x16 ", "2.5x16", "99999999999x1", "99999999999999999999x1"}) {
    EXPECT_THAT(ParseShape(wrong),
                StatusIs(kBadFlag, "got '" + wrong + "', wanted two positive numbers, as in 2x16"));
  }
}

TEST(FlagsTest, LengthsArePositiveNumbers) {
  EXPECT_THAT(*ParseLengths("5,16,9"), ElementsAre(5, 16, 9));
  EXPECT_THAT(*ParseLengths("7"), ElementsAre(7));
  for (const std::string wrong : {"", ",", "5,", "5, 16", "5,0", "5,-1", "5;6"}) {
    EXPECT_THAT(ParseLengths(wrong),
                StatusIs(kBadFlag, "got '" + wrong + "', wanted positive numbers, as in 5,16,9"));
  }
}

TEST(FlagsTest, DurationsHaveAUnit) {
  EXPECT_EQ(*ParseDuration("500ms"), 500ms);
  EXPECT_EQ(*ParseDuration("10s"), 10s);
  EXPECT_EQ(*ParseDuration("2m"), 120s);
  EXPECT_EQ(*ParseDuration("0s"), 0s);
  for (const std::string wrong : {"", "10", "s", "1.5s", "-1s", "10 s", "10h", "10sec",
                                  "99999999999999999999s", "9223372036854775807m"}) {
    EXPECT_THAT(ParseDuration(wrong),
                StatusIs(kBadFlag, StartsWith("got '" + wrong + "', wanted a whole number and a unit")));
  }
}

TEST(FlagsTest, WeightsModesHaveNames) {
  EXPECT_EQ(*ParseWeightsMode("none"), v1::WEIGHTS_MODE_NONE);
  EXPECT_EQ(*ParseWeightsMode("full"), v1::WEIGHTS_MODE_FULL);
  EXPECT_EQ(*ParseWeightsMode("mean"), v1::WEIGHTS_MODE_MEAN);
  EXPECT_EQ(*ParseWeightsMode("top-k"), v1::WEIGHTS_MODE_TOP_K);
  EXPECT_EQ(*ParseWeightsMode("summary"), v1::WEIGHTS_MODE_SUMMARY);
  EXPECT_EQ(*ParseWeightsMode("grid"), v1::WEIGHTS_MODE_GRID);
  EXPECT_THAT(ParseWeightsMode("Full"),
              StatusIs(kBadFlag, "got 'Full', wanted none, full, mean, top-k, summary or grid"));
}

TEST(FlagsTest, GridsHaveUpTo64CellsEitherWay) {
  EXPECT_THAT(*ParseGrid("64x1"), ElementsAre(64, 1));
  for (const std::string wrong : {"", "64", "0x4", "4x65", "2x2x2", "4x", "axb"}) {
    EXPECT_THAT(ParseGrid(wrong),
                StatusIs(kBadFlag, "got '" + wrong + "', wanted rows and columns of cells, 1x1 to 64x64"));
  }
}

TEST(FlagsTest, HeadsAreCountedFromZero) {
  EXPECT_THAT(*ParseHeads("0,3,5"), ElementsAre(0, 3, 5));
  for (const std::string wrong : {"", ",", "0,", "0, 1", "-1", "0-3"}) {
    EXPECT_THAT(ParseHeads(wrong),
                StatusIs(kBadFlag, "got '" + wrong + "', wanted heads counted from 0, as in 0,3,5"));
  }
}

TEST(FlagsTest, QueryRangesAreNotEmpty) {
  const auto range = ParseQueryRange("3:16");
  ASSERT_THAT(range, IsOk());
  EXPECT_EQ(range->begin, 3);
  EXPECT_EQ(range->end, 16);
  for (const std::string wrong : {"", ":", "3", "3:", ":3", "3:3", "4:3", "-1:3", "1:2:3"}) {
    EXPECT_THAT(ParseQueryRange(wrong),
                StatusIs(kBadFlag, "got '" + wrong +
                                       "', wanted the first query and the one after the last, as in 0:16"));
  }
}

TEST(FlagsTest, LoadBalancingHasTheNamesOfGrpc) {
  EXPECT_EQ(*ParseLoadBalancing("pick_first"), LoadBalancing::kPickFirst);
  EXPECT_EQ(*ParseLoadBalancing("round_robin"), LoadBalancing::kRoundRobin);
  EXPECT_THAT(ParseLoadBalancing("random"),
              StatusIs(kBadFlag, "got 'random', wanted pick_first or round_robin"));
}

TEST(FlagsTest, SecurityReachesTheClientsOptions) {
  const auto connect = [](const std::vector<std::string>& words) {
    CLI::App app;
    ServerFlags flags;
    AddServerFlags(app, 1000, flags);
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
    return flags.Connect().status();
  };
  EXPECT_THAT(connect({"--tls", "--load-balancing", "round_robin"}), IsOk());
  EXPECT_THAT(connect({"--tls-server-name", "headlight.example"}), IsOk());  // means --tls
  const auto missing = absl::StatusCode::kNotFound;
  EXPECT_THAT(connect({"--tls-ca", "/no/ca"}), StatusIs(missing, "tls.ca_file: cannot read '/no/ca'"));
  EXPECT_THAT(connect({"--tls-cert", "/no/cert"}), StatusIs(kBadFlag, StartsWith("tls.key_file: got none")));
  EXPECT_THAT(connect({"--tls-cert", "/no/cert", "--tls-key", "/no/key"}),
              StatusIs(missing, "tls.cert_file: cannot read '/no/cert'"));
  EXPECT_THAT(connect({"--token-file", "/no/token"}), StatusIs(kBadFlag, StartsWith("token_file: got")));
  EXPECT_THAT(connect({"--token-file", "/no/token", "--tls"}),
              StatusIs(missing, "token_file: cannot read '/no/token'"));
  EXPECT_THAT(connect({"--token-file", "/no/token", "--allow-token-without-tls"}),
              StatusIs(missing, "token_file: cannot read '/no/token'"));
}

TEST(FlagsTest, ElementTypesHaveNames) {
  EXPECT_EQ(*ParseDType("f32"), v1::DTYPE_F32);
  EXPECT_EQ(*ParseDType("bf16"), v1::DTYPE_BF16);
  EXPECT_EQ(*ParseDType("f16"), v1::DTYPE_F16);
  for (const std::string wrong : {"", "F32", "i32", "bool"}) {
    EXPECT_THAT(ParseDType(wrong), StatusIs(kBadFlag, "got '" + wrong + "', wanted f32, bf16 or f16"));
  }
}

}  // namespace
}  // namespace headlight::client
