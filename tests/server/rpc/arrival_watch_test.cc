// SPDX-License-Identifier: Apache-2.0
//
// The memory of messages that are arriving, with connections whose bytes the test sends.
#include "server/rpc/arrival_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kLimit = 100 * kMiB;
constexpr int64_t kMaxMessage = 64 * kMiB;
constexpr int64_t kLeased = 64 << 10;
const std::string kPeer = "ipv4:10.0.0.1:1000";

class FakeReader final : public MessageReader {
 public:
  void EndReading(absl::Status why) override { whys.push_back(std::move(why)); }
  void BreakOff() override { broken_off = true; }
  bool ended() const { return !whys.empty(); }
  std::vector<absl::Status> whys;
  bool broken_off = false;
};

class ArrivalWatchTest : public ::testing::Test {
 protected:
  std::shared_ptr<FakeReader> Read(const std::string& peer = kPeer) {
    auto reader = std::make_shared<FakeReader>();
    watch_.Expect(*watch_.Find(peer), reader, kLeased);
    return reader;
  }
  void End(const FakeReader& reader, std::optional<int64_t> bytes, const std::string& peer = kPeer) {
    watch_.End(*watch_.Find(peer), reader, bytes);
  }
  void Receive(int64_t bytes, const std::string& peer = kPeer) { received_[peer] += bytes; }
  int64_t Held() const { return memory_.Held(MemoryKind::kMessage); }

  testing::FakeClock clock_;
  MemoryBudget memory_{kLimit};
  std::map<std::string, int64_t> received_;
  ArrivalWatch watch_{memory_,
                      clock_,
                      [this](const std::string& peer) -> std::optional<int64_t> {
                        const auto found = received_.find(peer);
                        if (found == received_.end()) return std::nullopt;
                        return found->second;
                      },
                      {.max_message_bytes = kMaxMessage, .patience = std::chrono::seconds(30)}};
};

TEST_F(ArrivalWatchTest, WhatIsArrivingIsHeldBeyondTheReadersLeases) {
  const auto reader = Read();
  Receive(10 * kMiB);
  EXPECT_TRUE(watch_.Look());
  EXPECT_EQ(Held(), 10 * kMiB - kLeased);
  Receive(5 * kMiB);
  watch_.Look();
  EXPECT_EQ(Held(), 15 * kMiB - kLeased);
}

TEST_F(ArrivalWatchTest, AMessageThatWasHandedOverIsNoLongerArriving) {
  const auto reader = Read();
  Receive(10 * kMiB);
  watch_.Look();
  End(*reader, 10 * kMiB);
  EXPECT_FALSE(watch_.Look());
  EXPECT_EQ(Held(), 0);
}

TEST_F(ArrivalWatchTest, WhatWaitsInAStreamThatReadsNothingIsHeld) {
  const auto stream = Read();
  Receive(3 * kMiB);
  watch_.Received(*watch_.Find(kPeer), *stream, 2 * kMiB);
  const int64_t around_message = 2 * kMiB / 16384 * 9 + 512;  // what its frames and headers may have taken
  watch_.Look();
  EXPECT_EQ(Held(), kMiB - around_message);
  watch_.Expect(*watch_.Find(kPeer), stream, kLeased);
  watch_.Look();
  EXPECT_EQ(Held(), kMiB - around_message - kLeased);
}

TEST_F(ArrivalWatchTest, AMessageThatWillNotComeIsNoLongerArriving) {
  const auto gone = Read();
  const auto other = Read();
  Receive(20 * kMiB);
  watch_.Look();
  End(*gone, std::nullopt);
  watch_.Look();
  EXPECT_EQ(Held(), 10 * kMiB - kLeased);  // the other's part
  End(*other, std::nullopt);
  watch_.Look();
  EXPECT_EQ(Held(), 0);
}

TEST_F(ArrivalWatchTest, HeadersAndFramesOfManyCallsAreNotTakenForAMessage) {
  const auto idle = Read();  // a stream beside them
  for (int i = 0; i < 10000; ++i) {
    const auto call = Read();
    Receive(400 + 300);
    End(*call, 400);
    if (i % 100 == 0) watch_.Look();
  }
  EXPECT_FALSE(watch_.Look());
  EXPECT_EQ(Held(), 0);
}

TEST_F(ArrivalWatchTest, WhatCameWhileNobodyReadIsNoMessage) {
  Receive(10 * kMiB);
  const auto first = Read();
  watch_.Look();
  End(*first, 4 * kMiB);
  const auto second = Read();
  watch_.Look();
  EXPECT_EQ(Held(), 0);
  Receive(3 * kMiB);
  watch_.Look();
  EXPECT_EQ(Held(), 3 * kMiB - kLeased);
}

TEST_F(ArrivalWatchTest, WhenMemoryIsShortTheLatestReadersOfTheLargestConnectionEnd) {
  const std::string other_peer = "ipv4:10.0.0.2:1000";
  const auto other = Read(other_peer);
  const auto early = Read();
  const auto late = Read();
  Receive(30 * kMiB, other_peer);
  Receive(60 * kMiB);
  watch_.Look();
  EXPECT_FALSE(other->ended() || early->ended() || late->ended());
  Receive(20 * kMiB);
  watch_.Look();
  EXPECT_FALSE(other->ended() || early->ended());
  ASSERT_TRUE(late->ended());
  EXPECT_EQ(late->whys.front().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(late->whys.front().message()), HasSubstr(std::to_string(kLimit)));
  watch_.Look();  // half of what the connection has goes with it: nobody else must end
  EXPECT_FALSE(other->ended() || early->ended());
  End(*late, std::nullopt);
  watch_.Look();
  EXPECT_EQ(Held(), 40 * kMiB - kLeased + 30 * kMiB - kLeased);
}

TEST_F(ArrivalWatchTest, WhoIsToldToEndAndGoesOnIsBrokenOff) {
  const auto reader = Read();
  Receive(kLimit + 2 * kLeased);
  received_[kPeer] = kLimit + 2 * kLeased;
  watch_.Look();
  ASSERT_TRUE(reader->ended());
  EXPECT_FALSE(reader->broken_off);
  clock_.Advance(std::chrono::milliseconds(1001));
  watch_.Look();
  EXPECT_TRUE(reader->broken_off);
  EXPECT_EQ(reader->whys.size(), 1u);
}

TEST_F(ArrivalWatchTest, AMessageBeyondTheLargestEndsBeforeItIsWhole) {
  const auto reader = Read();
  Receive(kMaxMessage + 9 * kMiB);
  watch_.Look();
  ASSERT_TRUE(reader->ended());
  EXPECT_THAT(std::string(reader->whys.front().message()), HasSubstr(std::to_string(kMaxMessage)));
}

TEST_F(ArrivalWatchTest, EmptyMessagesBesideALargeOneHideNothingOfIt) {
  const auto large = Read();
  Receive(20 * kMiB);
  watch_.Look();
  for (int i = 0; i < 100; ++i) {
    const auto empty = Read();
    Receive(512);
    End(*empty, 0);
  }
  watch_.Look();
  EXPECT_EQ(Held(), 20 * kMiB - kLeased);
}

TEST_F(ArrivalWatchTest, WhoTakesSmallMessagesMayNotBeSentLargeOnes) {
  std::vector<std::shared_ptr<FakeReader>> readers;
  for (int i = 0; i < 10; ++i) {
    readers.push_back(std::make_shared<FakeReader>());
    watch_.Expect(*watch_.Find(kPeer), readers.back(), 0, /*max_bytes=*/64 << 10);
  }
  Receive(8 * kMiB);  // what the system may hold
  watch_.Look();
  for (const auto& reader : readers) EXPECT_FALSE(reader->ended());
  Receive(kMiB);
  watch_.Look();
  for (const auto& reader : readers) {
    ASSERT_TRUE(reader->ended());
    EXPECT_THAT(std::string(reader->whys.front().message()), HasSubstr("more than 65536 bytes"));
  }
}

TEST_F(ArrivalWatchTest, WhenMemoryIsShortReadersOfSmallMessagesStay) {
  const auto large = Read();
  const auto small = std::make_shared<FakeReader>();
  watch_.Expect(*watch_.Find(kPeer), small, 0, /*max_bytes=*/64 << 10);
  const std::optional<Lease> others = memory_.TryReserve(MemoryKind::kQueue, kLimit - 2 * kMiB);
  ASSERT_TRUE(others.has_value());
  Receive(40 * kMiB);
  watch_.Look();
  EXPECT_TRUE(large->ended());
  EXPECT_FALSE(small->ended());
}

TEST_F(ArrivalWatchTest, ASenderThatStopsInTheMiddleIsGivenUp) {
  const auto reader = Read();
  Receive(5 * kMiB);
  watch_.Look();
  clock_.Advance(std::chrono::seconds(29));
  watch_.Look();
  EXPECT_FALSE(reader->ended());
  clock_.Advance(std::chrono::seconds(2));
  watch_.Look();
  EXPECT_TRUE(reader->ended());
}

TEST_F(ArrivalWatchTest, AnIdleStreamIsNotGivenUp) {
  const auto reader = Read();
  Receive(300);  // its headers
  watch_.Look();
  clock_.Advance(std::chrono::hours(1));
  EXPECT_FALSE(watch_.Look());
  EXPECT_FALSE(reader->ended());
}

TEST_F(ArrivalWatchTest, AConnectionOfUnknownBytesIsLeftAlone) {
  const auto reader = Read("unix:");
  EXPECT_FALSE(watch_.Look());
  EXPECT_EQ(Held(), 0);
}

TEST_F(ArrivalWatchTest, AConnectionIsRememberedAsLongAsItIsOpen) {
  const auto first = Read();
  Receive(10 * kMiB);
  End(*first, 10 * kMiB);
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(std::chrono::seconds(11));
    watch_.Look();
  }
  const auto second = Read();
  watch_.Look();
  EXPECT_EQ(Held(), 0);
}

}  // namespace
}  // namespace headlight
