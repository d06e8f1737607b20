// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/traffic_judge.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

namespace headlight {
namespace {

constexpr int64_t kMaxStreams = 256;
constexpr std::chrono::milliseconds kLook{10};
const TimePoint kMade{std::chrono::hours(1)};

class TrafficJudgeTest : public ::testing::Test {
 protected:
  // One look later.
  bool IsSuspect() {
    traffic_.now += kLook;
    return judge_.IsSuspect(traffic_);
  }
  bool IsAbuse() { return IsSuspect() && !judge_.WhyAbuse(traffic_, streams_, kMaxStreams).empty(); }

  // A call with a message of so many bytes, answered.
  void Serve(int64_t bytes) {
    traffic_.received_bytes += bytes + 100;
    traffic_.message_bytes += bytes;
    ++traffic_.calls_begun;
    ++streams_.begun;
    ++streams_.ended;
    ++streams_.messages_sent;
  }

  Traffic traffic_ = {.now = kMade};
  StreamCounts streams_;
  TrafficJudge judge_{kMade};
};

TEST_F(TrafficJudgeTest, CallersAreNoSuspects) {
  for (int i = 0; i < 1000; ++i) {
    for (int call = 0; call < 500; ++call) Serve(50);
    ASSERT_FALSE(IsSuspect());
  }
}

TEST_F(TrafficJudgeTest, LargeMessagesAreNoAbuseHoweverLongTheyTake) {
  for (int message = 0; message < 20; ++message) {
    ++traffic_.calls_begun;
    ++traffic_.calls_open;
    ++streams_.begun;
    for (int i = 0; i < 64; ++i) {
      traffic_.received_bytes += 1 << 20;
      ASSERT_FALSE(IsAbuse());
    }
    traffic_.message_bytes += 64 << 20;
    --traffic_.calls_open;
    ++streams_.ended;
    ++streams_.messages_sent;
  }
  ASSERT_FALSE(IsAbuse());
}

TEST_F(TrafficJudgeTest, AfterALargeMessageSmallOnesAreNoSuspects) {
  traffic_.received_bytes += 64 << 20;
  traffic_.calls_open = 1;
  EXPECT_TRUE(IsSuspect());
  traffic_.message_bytes += 64 << 20;
  traffic_.calls_open = 0;
  EXPECT_FALSE(IsSuspect());
  for (int i = 0; i < 100; ++i) {
    Serve(50);
    ASSERT_FALSE(IsSuspect());
  }
}

TEST_F(TrafficJudgeTest, PingsWithoutACallAreAbuse) {
  traffic_.received_bytes = 1000;  // a preface and what comes with it
  EXPECT_FALSE(IsSuspect());
  traffic_.received_bytes += 17 * 20'000;
  EXPECT_FALSE(IsAbuse());  // the headers of a call may be among them
  traffic_.received_bytes += 17 * 20'000;
  EXPECT_TRUE(IsAbuse());
}

TEST_F(TrafficJudgeTest, HeadersWithoutAnEndAreAbuse) {
  ++streams_.begun;
  int64_t sent = 0;
  do {
    traffic_.received_bytes += 160'000;
    sent += 160'000;
    ASSERT_LT(sent, 4 << 20);
  } while (!IsAbuse());
}

TEST_F(TrafficJudgeTest, ALargeBodyOfAControlCallIsItsOwn) {
  for (int call = 0; call < 5; ++call) {
    ++streams_.begun;
    for (int i = 0; i < 10; ++i) {
      traffic_.received_bytes += 80'000;
      ASSERT_FALSE(IsAbuse());
    }
    ++streams_.ended;
    ++streams_.messages_sent;
    for (int i = 0; i < 10; ++i) {
      traffic_.received_bytes += 17;
      ASSERT_FALSE(IsAbuse());
    }
  }
}

TEST_F(TrafficJudgeTest, WhatFailedLongBeforeAnUploadIsNoBurst) {
  for (int i = 0; i < 600; ++i) {
    traffic_.now += std::chrono::seconds(1);
    traffic_.received_bytes += 100;
    ++streams_.begun;
    ++streams_.ended;
    ASSERT_FALSE(IsSuspect());
  }
  ++streams_.begun;
  ++traffic_.calls_begun;
  ++traffic_.calls_open;
  for (int i = 0; i < 10; ++i) {
    traffic_.received_bytes += 1 << 20;
    ASSERT_FALSE(IsAbuse());
  }
}

TEST_F(TrafficJudgeTest, AnswersAreNoCreditForEver) {
  streams_.messages_sent = 1'000'000;  // of one long stream
  int64_t refused = 0;
  do {
    traffic_.received_bytes += 100 * 4000;
    streams_.begun += 100;
    streams_.ended += 100;
    refused += 100;
    ASSERT_LT(refused, 10'000);
  } while (!IsAbuse());
}

TEST_F(TrafficJudgeTest, APingASecondGoesOnForEver) {
  for (int i = 0; i < 100'000; ++i) {
    if (i % 100 == 0) traffic_.received_bytes += 17;
    ASSERT_FALSE(IsSuspect());
  }
}

TEST_F(TrafficJudgeTest, CallsOfOtherServicesMayComeFastAsLongAsTheyAreAnswered) {
  for (int i = 0; i < 1000; ++i) {
    traffic_.received_bytes += 100 * 200;
    streams_.begun += 200;
    streams_.ended += 200;
    streams_.messages_sent += 200;
    ASSERT_FALSE(IsAbuse());
  }
}

TEST_F(TrafficJudgeTest, HeadersThatAreRefusedAreAbuseSoon) {
  Serve(50);
  ASSERT_FALSE(IsAbuse());
  int64_t refused = 0;
  do {
    traffic_.received_bytes += 5 * 4000;
    streams_.begun += 5;
    streams_.ended += 5;
    refused += 5;
    ASSERT_LT(refused, 100);
  } while (!IsAbuse());
}

TEST_F(TrafficJudgeTest, CallsInMemoryFarBeyondTheLimitWereReset) {
  traffic_.received_bytes = 1 << 20;
  traffic_.calls_open = 1;
  streams_.begun = kMaxStreams + 100;
  EXPECT_FALSE(IsAbuse());
  traffic_.received_bytes += 1 << 20;
  streams_.begun = kMaxStreams + 800;
  EXPECT_TRUE(IsAbuse());
}

}  // namespace
}  // namespace headlight
