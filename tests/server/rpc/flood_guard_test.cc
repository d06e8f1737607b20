// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/flood_guard.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace headlight {
namespace {

TEST(FloodGuardTest, ServersOfTheProcessAreFound) {
  EXPECT_EQ(ServersIn(R"({"server":[{"data":{"callsStarted":"70"},"ref":{"serverId":"2"}},
                                    {"ref":{"serverId":"3"}}],"end":true})"),
            (std::vector<int64_t>{2, 3}));
}

TEST(FloodGuardTest, StreamsThatHaveFailedHaveEnded) {
  const StreamCounts streams = StreamsIn(R"({"socket":{"data":{"streamsStarted":"70","streamsSucceeded":"50",
                                             "streamsFailed":"5","messagesSent":"49"}}})");
  EXPECT_EQ(streams.begun, 70);
  EXPECT_EQ(streams.ended, 55);
  EXPECT_EQ(streams.messages_sent, 49);
}

TEST(FloodGuardTest, WhatIsNoJsonOfChannelzTellsNothing) {
  for (const char* text : {"", "{", "[]", "7", R"({"server":7})", R"({"socket":[7,{"data":"x"}]})"}) {
    EXPECT_TRUE(ServersIn(text).empty()) << text;
    EXPECT_EQ(StreamsIn(text).begun, 0) << text;
  }
}

}  // namespace
}  // namespace headlight
