// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/flood_guard.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace headlight {
namespace {

TEST(FloodGuardTest, CallsOfAllServersAreCounted) {
  const CallCounts counts =
      CountCalls(R"({"server":[{"data":{"callsStarted":"70","callsSucceeded":"50","callsFailed":"5"},
                                "ref":{"serverId":"2"}},
                               {"data":{"callsStarted":"9"},"ref":{"serverId":"3"}}],"end":true})");
  EXPECT_EQ(counts.unfinished, 24);
  EXPECT_EQ(counts.failed, 5);
  EXPECT_EQ(counts.servers, (std::vector<int64_t>{2, 3}));
}

TEST(FloodGuardTest, WhatIsNoJsonOfChannelzCountsNothing) {
  for (const char* text : {"", "{", "[]", "7", R"({"server":7})", R"({"server":[7,{"data":"x"}]})"}) {
    EXPECT_EQ(CountCalls(text).unfinished, 0) << text;
  }
}

}  // namespace
}  // namespace headlight
