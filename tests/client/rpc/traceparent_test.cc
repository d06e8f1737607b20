// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/traceparent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "client/client.h"
#include "tests/client/fake_server.h"
#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kGood[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceparentTest, GoesWithTheCallAndWithTheStream) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  ASSERT_THAT(client, IsOk());
  const Tensor query = {.shape = {1, 1, 1}, .values = {1}};
  EXPECT_THAT(client->Attend({.traceparent = kGood, .query = query.View()}, 30s), IsOk());
  EXPECT_THAT(client->Attend({.query = query.View()}, 30s), IsOk());
  const auto stream = client->OpenStream(30s, {.traceparent = kGood});
  ASSERT_THAT(stream, IsOk());
  (*stream)->Attend({.query = query.View()},
                    [](absl::StatusOr<AttendReply> reply) { EXPECT_THAT(reply, IsOk()); });
  EXPECT_THAT((*stream)->Finish(), IsOk());
  EXPECT_THAT(server.traceparents(), ElementsAre(kGood, "", kGood));
}

TEST(TraceparentTest, WhatIsNoneNeverReachesGrpc) {
  FakeServer server;
  const auto client = Client::Create(server.target());
  ASSERT_THAT(client, IsOk());
  const Tensor query = {.shape = {1, 1, 1}, .values = {1}};
  const std::string good = kGood;
  for (const std::string& bad : {good + "\n", std::string("\x01"), good.substr(1), "01" + good.substr(2),
                                 "00-00000000000000000000000000000000" + good.substr(35),
                                 good.substr(0, 36) + "0000000000000000-01", good.substr(0, 53) + "0G"}) {
    EXPECT_THAT(client->Attend({.traceparent = bad, .query = query.View()}, 30s),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("traceparent: got")))
        << bad;
    EXPECT_THAT(client->OpenStream(30s, {.traceparent = bad}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("traceparent: got")));
  }
  EXPECT_THAT(server.traceparents(), ElementsAre());
}

}  // namespace
}  // namespace headlight::client
