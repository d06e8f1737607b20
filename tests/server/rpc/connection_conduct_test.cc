// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/connection_conduct.h"

#include <gtest/gtest.h>

#include <chrono>

namespace headlight {
namespace {

constexpr int kWholeBurst = static_cast<int>(ConnectionConduct::kBurst);
const TimePoint kFirstCall{std::chrono::hours(1)};

TEST(ConnectionConductTest, ABurstOfCallsThrownAwayIsAbuse) {
  ConnectionConduct conduct(1, kFirstCall);
  for (int i = 0; i < kWholeBurst; ++i) ASSERT_FALSE(conduct.IsAbuse(CallEnding::kCancelledUnread, kFirstCall));
  EXPECT_TRUE(conduct.IsAbuse(CallEnding::kCancelledUnread, kFirstCall));
}

TEST(ConnectionConductTest, ItIsCondemnedOnce) {
  ConnectionConduct conduct(1, kFirstCall);
  EXPECT_TRUE(conduct.Condemn());
  EXPECT_FALSE(conduct.Condemn());
}

TEST(ConnectionConductTest, AFewASecondGoOnForEver) {
  ConnectionConduct conduct(1, kFirstCall);
  const auto apart = std::chrono::microseconds(static_cast<int64_t>(1e6 / ConnectionConduct::kPerSecond) + 1);
  for (int i = 0; i < 10 * kWholeBurst; ++i) {
    ASSERT_FALSE(conduct.IsAbuse(CallEnding::kCancelledUnread, kFirstCall + i * apart));
  }
}

TEST(ConnectionConductTest, WhoGetsAnswersMayCancelSomeTimesAsMany) {
  ConnectionConduct conduct(1, kFirstCall);
  for (int i = 0; i < 10 * kWholeBurst; ++i) {
    ASSERT_FALSE(conduct.IsAbuse(CallEnding::kAnswered, kFirstCall));
    for (int j = 0; j < ConnectionConduct::kPerAnswer; ++j) {
      ASSERT_FALSE(conduct.IsAbuse(CallEnding::kCancelledUnread, kFirstCall));
    }
  }
}

TEST(ConnectionConductTest, CallsThatWereReadMayAllBeCancelled) {
  ConnectionConduct conduct(1, kFirstCall);
  for (int i = 0; i < 10 * kWholeBurst; ++i) ASSERT_FALSE(conduct.IsAbuse(CallEnding::kCancelled, kFirstCall));
  EXPECT_FALSE(conduct.IsAbuse(CallEnding::kCancelledUnread, kFirstCall));
}

TEST(ConnectionConductTest, AnswersDoNotSaveUpForMoreThanABurst) {
  ConnectionConduct conduct(1, kFirstCall);
  for (int i = 0; i < 10 * kWholeBurst; ++i) (void)conduct.IsAbuse(CallEnding::kAnswered, kFirstCall);
  for (int i = 0; i < kWholeBurst; ++i) ASSERT_FALSE(conduct.IsAbuse(CallEnding::kCancelledUnread, kFirstCall));
  EXPECT_TRUE(conduct.IsAbuse(CallEnding::kCancelledUnread, kFirstCall));
}

}  // namespace
}  // namespace headlight
