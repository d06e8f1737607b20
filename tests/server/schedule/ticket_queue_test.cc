// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/ticket_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "tests/server/schedule/schedule_times.h"

namespace headlight {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kNow;
using testing::kNsPerMs;
using ::testing::UnorderedElementsAre;

// Tickets of 10 ms each with 500 ms of time, named by their ids.
class TicketQueueTest : public ::testing::Test {
 protected:
  std::unique_ptr<Ticket> Make(uint64_t id) {
    auto ticket = std::make_unique<Ticket>();
    ticket->id = id;
    ticket->arrival = kNow;
    ticket->deadline = kNow + milliseconds(500);
    ticket->predicted_ns = 10 * kNsPerMs;
    ticket->tokens = 10;
    ticket->cancelled = std::make_shared<CancellationToken>();
    return ticket;
  }

  void Push(uint64_t id, milliseconds deadline, int32_t priority = 0) {
    auto ticket = Make(id);
    ticket->deadline = deadline == milliseconds::max() ? TimePoint::max() : kNow + deadline;
    ticket->priority = priority;
    queue_.Push(kNow, std::move(ticket));
  }

  void PushFrom(uint64_t id, Caller caller, bool held_back = false) {
    auto ticket = Make(id);
    ticket->caller = caller;
    ticket->held_back = held_back;
    queue_.Push(kNow, std::move(ticket));
  }

  std::vector<uint64_t> Take(int64_t budget_ms = 0) {
    const BatchLimits limits{
        .now = kNow, .budget_ns = static_cast<double>(budget_ms * kNsPerMs), .max_tokens = max_tokens_};
    std::vector<std::unique_ptr<Ticket>> dropped;
    const std::vector<std::unique_ptr<Ticket>> batch = queue_.TakeBatch(limits, dropped);
    for (const auto& ticket : dropped) dropped_.push_back(ticket->id);
    std::vector<uint64_t> ids;
    for (const auto& ticket : batch) ids.push_back(ticket->id);
    return ids;
  }

  // Takes so many tickets: how many of them the second caller's, whose ids are beyond 100.
  int TakenOfTheSecond(int count) {
    int of_the_second = 0;
    for (int i = 0; i < count; ++i) of_the_second += Take().front() > 100 ? 1 : 0;
    return of_the_second;
  }

  TicketQueue queue_{{.max_age_us = 1'000'000, .priority_step_us = 20'000, .held_back_share = 0.25}};
  int64_t max_tokens_ = 1000;
  std::vector<uint64_t> dropped_;
};

TEST_F(TicketQueueTest, TheEarliestDeadlineGoesFirstAndEqualOnesInTheirOrder) {
  Push(1, milliseconds(300));
  Push(2, milliseconds(100));
  Push(3, milliseconds(300));
  Push(4, milliseconds(200));
  EXPECT_THAT(Take(1000), ElementsAre(2, 4, 1, 3));
  EXPECT_TRUE(queue_.empty());
}

TEST_F(TicketQueueTest, AgeCountsAsADeadline) {
  Push(1, milliseconds::max());
  Push(2, milliseconds(1500));
  Push(3, milliseconds(999));
  EXPECT_THAT(Take(1000), ElementsAre(3, 1, 2));
}

TEST_F(TicketQueueTest, PriorityCountsAsAnEarlierDeadline) {
  Push(1, milliseconds(300), 0);
  Push(2, milliseconds(350), 5);   // as 250
  Push(3, milliseconds(250), -5);  // as 350
  EXPECT_THAT(Take(1000), ElementsAre(2, 1, 3));
}

TEST_F(TicketQueueTest, BatchesHoldOneKeyAndLeaveTheOthersInPlace) {
  for (uint64_t id = 1; id <= 4; ++id) {
    auto ticket = Make(id);
    ticket->batch_key.kind = id % 2;
    queue_.Push(kNow, std::move(ticket));
  }
  EXPECT_THAT(Take(1000), ElementsAre(1, 3));
  EXPECT_THAT(Take(1000), ElementsAre(2, 4));
}

TEST_F(TicketQueueTest, BatchesStayWithinTheirLimits) {
  for (uint64_t id = 1; id <= 7; ++id) queue_.Push(kNow, Make(id));
  EXPECT_THAT(Take(5), ElementsAre(1)) << "larger than the budget: a batch of its own";
  EXPECT_THAT(Take(25), ElementsAre(2, 3));
  max_tokens_ = 10;
  EXPECT_THAT(Take(1000), ElementsAre(4));
  max_tokens_ = 25;
  EXPECT_THAT(Take(1000), ElementsAre(5, 6));
}

TEST_F(TicketQueueTest, WhatABatchSharesCountsOnce) {
  for (uint64_t id = 1; id <= 3; ++id) {
    auto ticket = Make(id);
    ticket->fixed_ns = 9 * kNsPerMs;
    queue_.Push(kNow, std::move(ticket));
  }
  EXPECT_THAT(Take(12), ElementsAre(1, 2, 3));
}

TEST_F(TicketQueueTest, NobodyJoinsABatchThatWouldBeLateWithIt) {
  Push(1, milliseconds(15));
  Push(2, milliseconds(300));
  EXPECT_THAT(Take(1000), ElementsAre(1));
}

TEST_F(TicketQueueTest, GivesUpWhatIsCancelledOrCannotBeKept) {
  Push(1, milliseconds(0));
  Push(2, milliseconds(9));
  Push(3, milliseconds(11));
  auto cancelled = Make(4);
  cancelled->cancelled->Cancel();
  queue_.Push(kNow, std::move(cancelled));
  queue_.Push(kNow, Make(5));
  EXPECT_THAT(Take(), ElementsAre(3));
  EXPECT_THAT(Take(), ElementsAre(5));
  EXPECT_THAT(dropped_, ElementsAre(1, 2, 4));
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.predicted_ns(), 0);
}

TEST_F(TicketQueueTest, RemovesByIdOnce) {
  for (uint64_t id = 1; id <= 3; ++id) queue_.Push(kNow, Make(id));
  EXPECT_EQ(queue_.Remove(2)->id, 2u);
  EXPECT_EQ(queue_.Remove(2), nullptr);
  EXPECT_EQ(queue_.Remove(9), nullptr);
  EXPECT_EQ(queue_.num_tickets(), 2);
  EXPECT_EQ(queue_.predicted_ns(), 20 * kNsPerMs);
  EXPECT_THAT(Take(1000), ElementsAre(1, 3));
}

TEST_F(TicketQueueTest, TakesOutThoseWhoseDeadlineHasPassed) {
  Push(1, milliseconds(100));
  Push(2, milliseconds(50));
  Push(3, milliseconds::max());
  EXPECT_EQ(queue_.next_deadline(), kNow + milliseconds(50));
  EXPECT_THAT(queue_.TakeExpired(kNow + milliseconds(49)), IsEmpty());
  EXPECT_EQ(queue_.TakeExpired(kNow + milliseconds(100)).size(), 2u);
  EXPECT_EQ(queue_.next_deadline(), TimePoint::max());
  EXPECT_EQ(queue_.num_tickets(), 1);
}

TEST_F(TicketQueueTest, CallersGetTimeByTheirWeights) {
  for (uint64_t id = 1; id <= 40; ++id) PushFrom(id, {.id = 1, .weight = 1});
  for (uint64_t id = 101; id <= 140; ++id) PushFrom(id, {.id = 2, .weight = 3});
  EXPECT_NEAR(TakenOfTheSecond(40), 30, 1);
}

TEST_F(TicketQueueTest, ACallerThatWasAwayNeitherSavedUpNorOwes) {
  for (uint64_t id = 1; id <= 40; ++id) PushFrom(id, {.id = 1});
  for (int i = 0; i < 20; ++i) Take();
  for (uint64_t id = 101; id <= 120; ++id) PushFrom(id, {.id = 2});
  EXPECT_NEAR(TakenOfTheSecond(20), 10, 1);
}

TEST_F(TicketQueueTest, ACallerThatPausedGoesFirstForWhatOthersTookMeanwhile) {
  PushFrom(100, {.id = 2});
  for (uint64_t id = 1; id <= 20; ++id) PushFrom(id, {.id = 1});
  for (int i = 0; i < 12; ++i) Take();  // its one and 11 of the other's
  for (uint64_t id = 101; id <= 120; ++id) PushFrom(id, {.id = 2});
  for (int i = 0; i < 9; ++i) EXPECT_GT(Take().front(), 100u) << i;
  EXPECT_NEAR(TakenOfTheSecond(10), 5, 1) << "then in turn";
}

TEST_F(TicketQueueTest, CreditHasALimit) {
  PushFrom(100, {.id = 2});
  for (uint64_t id = 1; id <= 80; ++id) PushFrom(id, {.id = 1});
  for (int i = 0; i < 51; ++i) Take();
  for (uint64_t id = 101; id <= 160; ++id) PushFrom(id, {.id = 2});
  EXPECT_NEAR(TakenOfTheSecond(40), 30, 1) << "200 ms of 400, and half of the others";
}

TEST_F(TicketQueueTest, CreditIsGoneAfterSeconds) {
  PushFrom(100, {.id = 2});
  for (uint64_t id = 1; id <= 40; ++id) PushFrom(id, {.id = 1});
  for (int i = 0; i < 21; ++i) Take();
  for (uint64_t id = 101; id <= 120; ++id) {
    auto ticket = Make(id);
    ticket->caller.id = 2;
    queue_.Push(kNow + std::chrono::seconds(10), std::move(ticket));
  }
  EXPECT_NEAR(TakenOfTheSecond(20), 10, 1);
}

TEST_F(TicketQueueTest, AfterARestAllAreEqual) {
  PushFrom(100, {.id = 2});
  for (uint64_t id = 1; id <= 20; ++id) PushFrom(id, {.id = 1});
  while (!queue_.empty()) Take();
  queue_.StartAfresh();
  for (uint64_t id = 21; id <= 40; ++id) PushFrom(id, {.id = 1});
  for (uint64_t id = 101; id <= 120; ++id) PushFrom(id, {.id = 2});
  EXPECT_NEAR(TakenOfTheSecond(20), 10, 1);
}

TEST_F(TicketQueueTest, OnlyWhoIsBeyondItsShareReckonsWithWhatComesToOthers) {
  for (uint64_t id = 101; id <= 110; ++id) PushFrom(id, {.id = 2});
  for (uint64_t id = 1; id <= 40; ++id) PushFrom(id, {.id = 1});
  for (int i = 0; i < 40; ++i) Take();
  auto fresh = Make(200);
  fresh->caller.id = 1;
  EXPECT_GE(queue_.AheadOf(kNow, *fresh).others_ns, 30 * kNsPerMs) << "a fifth of the time, and its scatter";
  fresh->caller.id = 2;
  EXPECT_EQ(queue_.AheadOf(kNow, *fresh).waiting_ns, 0) << "it goes ahead of the ten that wait";
}

TEST_F(TicketQueueTest, HeldBackTicketsGetTheirShareAndNoMore) {
  for (uint64_t id = 1; id <= 40; ++id) PushFrom(id, {.id = 1}, /*held_back=*/true);
  for (uint64_t id = 101; id <= 140; ++id) PushFrom(id, {.id = 1});
  EXPECT_EQ(queue_.num_held_back(), 40);
  EXPECT_EQ(queue_.held_back_ns(), 400 * kNsPerMs);
  int held_back = 0;
  for (int i = 0; i < 40; ++i) held_back += Take().front() < 100 ? 1 : 0;
  EXPECT_NEAR(held_back, 8, 1) << "1/4 beside 1";
}

TEST_F(TicketQueueTest, KnowsWhatIsAheadOfAPlace) {
  Push(1, milliseconds(100));
  Push(2, milliseconds(200));
  Push(3, milliseconds(300));
  auto fresh = Make(4);
  fresh->deadline = kNow + milliseconds(200);
  const AheadInQueue ahead = queue_.AheadOf(kNow, *fresh);
  EXPECT_EQ(ahead.waiting_ns, 20 * kNsPerMs);
  EXPECT_EQ(ahead.others_ns, 0);
  EXPECT_EQ(ahead.squares_ns2, 2.0 * (10 * kNsPerMs) * (10 * kNsPerMs));
  EXPECT_EQ(ahead.behind_ns, 10 * kNsPerMs);
  EXPECT_EQ(ahead.latest_start_ns,
            static_cast<double>((kNow + milliseconds(290)).time_since_epoch().count()));
}

TEST_F(TicketQueueTest, WhatIsAheadInOtherLinesIsWhatLeavesFirst) {
  for (uint64_t id = 1; id <= 20; ++id) PushFrom(id, {.id = 1});
  for (uint64_t id = 101; id <= 104; ++id) PushFrom(id, {.id = 2});
  auto fresh = Make(200);
  fresh->caller.id = 2;
  const double ahead_ns = queue_.AheadOf(kNow, *fresh).waiting_ns;
  queue_.Push(kNow, std::move(fresh));
  int before = 0;
  while (Take().front() != 200) ++before;
  EXPECT_NEAR(ahead_ns, before * 10.0 * kNsPerMs, 15.0 * kNsPerMs);
}

TEST_F(TicketQueueTest, RenewsPredictions) {
  for (uint64_t id = 1; id <= 3; ++id) queue_.Push(kNow, Make(id));
  queue_.PredictAgain([](Ticket& ticket) { ticket.predicted_ns = 20 * kNsPerMs; });
  EXPECT_EQ(queue_.predicted_ns(), 60 * kNsPerMs);
  EXPECT_EQ(queue_.AheadOf(kNow, *Make(9)).waiting_ns, 60 * kNsPerMs);
  EXPECT_EQ(queue_.TakeAll().size(), 3u);
  EXPECT_EQ(queue_.predicted_ns(), 0);
}

TEST_F(TicketQueueTest, ForgetsCallersThatAreGone) {
  for (uint64_t id = 1; id <= 10'000; ++id) {
    auto ticket = Make(id);
    const TimePoint now = kNow + std::chrono::seconds(id);
    ticket->arrival = now;
    ticket->deadline = now + milliseconds(500);
    ticket->caller.id = id;
    queue_.Push(now, std::move(ticket));
    queue_.TakeAll();
  }
  EXPECT_LE(queue_.num_lines(), 40u);
}

}  // namespace
}  // namespace headlight
