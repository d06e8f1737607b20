// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/engine_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "tests/server/schedule/schedule_times.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using std::chrono::milliseconds;
using ::testing::_;
using ::testing::ElementsAre;
using testing::IsOk;
using testing::kNsPerMs;
using testing::StatusIs;

// One caller; a ticket of N ms has N million projection FLOPs, and that is what it takes.
class EngineStateTest : public ::testing::Test {
 protected:
  explicit EngineStateTest(bool has_long_lane = true) : engine_(Options(), has_long_lane) {
    engine_.cost_model().Introduce(0, {.ns_per_projection_flop = 1, .fixed_ns = 1});
    // Batches of the usual size first, so that predictions are trusted.
    for (int i = 0; i < 500; ++i) {
      Admit(10);
      Run(Lane::kShort, 10);
    }
    ended_.clear();
  }

  static EngineOptions Options() {
    EngineOptions options;
    options.queue_max_requests = 30;
    return options;
  }

  std::unique_ptr<Ticket> Make(double ms, int64_t deadline_ms = 200) const {
    auto ticket = std::make_unique<Ticket>();
    ticket->arrival = now_;
    if (deadline_ms > 0) ticket->deadline = now_ + milliseconds(deadline_ms);
    ticket->cost.projection_flops = ms * kNsPerMs;
    ticket->tokens = 1;
    ticket->cancelled = std::make_shared<CancellationToken>();
    return ticket;
  }

  // Empty: admitted, and handle_ is the ticket's.
  std::optional<Outcome> Submit(std::unique_ptr<Ticket> ticket) {
    std::optional<FinishedTicket> refused = engine_.Submit(now_, std::move(ticket), handle_);
    if (!refused.has_value()) return std::nullopt;
    return std::move(refused->outcome);
  }

  TicketHandle Admit(double ms, int64_t deadline_ms = 200) {
    EXPECT_FALSE(Submit(Make(ms, deadline_ms)).has_value());
    return handle_;
  }

  // How many tickets were begun.
  size_t Begin(Lane lane) {
    Step step = engine_.Take(now_, lane);
    for (FinishedTicket& ended : step.dropped) ended_.push_back(std::move(ended.outcome));
    ask_again_ = step.ask_again;
    const size_t num_tickets = step.batch.tickets.size();
    batch_[lane == Lane::kLong] = std::move(step.batch);
    return num_tickets;
  }

  void End(Lane lane, const absl::Status& status = absl::OkStatus()) {
    for (FinishedTicket& ended : engine_.Complete(now_, std::move(batch_[lane == Lane::kLong]), status))
      ended_.push_back(std::move(ended.outcome));
  }

  void Run(Lane lane, int64_t ms) {
    ASSERT_GE(Begin(lane), 1u);
    now_ += milliseconds(ms);
    End(lane);
  }

  TimePoint now_{std::chrono::hours(1)};
  EngineState engine_;
  TicketHandle handle_;
  Batch batch_[2];
  TimePoint ask_again_;
  std::vector<Outcome> ended_;
};

class OneLaneTest : public EngineStateTest {
 protected:
  OneLaneTest() : EngineStateTest(false) {}
};

TEST_F(EngineStateTest, TellsTheTimesOfWhatItComputed) {
  Admit(10);
  now_ += milliseconds(3);
  Run(Lane::kShort, 10);
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_THAT(ended_[0].status, IsOk());
  EXPECT_EQ(ended_[0].reason, "");
  EXPECT_EQ(ended_[0].queue_us, 3'000);
  EXPECT_EQ(ended_[0].compute_us, 10'000);
  EXPECT_NEAR(ended_[0].predicted_us, 10'000, 100);
  EXPECT_TRUE(engine_.idle());
}

TEST_F(EngineStateTest, SmallTicketsShareABatchUpToTheBudget) {
  for (int i = 0; i < 6; ++i) Admit(1.2);
  EXPECT_EQ(Begin(Lane::kShort), 4u) << "5 ms";
}

TEST_F(EngineStateTest, RefusesAtArrivalWhatWouldBeLate) {
  for (int i = 0; i < 19; ++i) Admit(10);
  const std::optional<Outcome> refused = Submit(Make(10));
  ASSERT_TRUE(refused.has_value());
  EXPECT_THAT(refused->status, StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_EQ(refused->reason, kReasonBehindQueue);
  EXPECT_NEAR(refused->retry_after_us, 190'000, 5'000);
  EXPECT_EQ(handle_.id, 0u);
  Admit(10, /*deadline_ms=*/400);
}

TEST_F(EngineStateTest, AnUrgentTicketGoesAheadUnlessItMakesOthersLate) {
  for (int i = 0; i < 18; ++i) Admit(10);
  EXPECT_FALSE(Submit(Make(10, 50)).has_value()) << "20 ms are to spare";
  const std::optional<Outcome> refused = Submit(Make(30, 50));
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->reason, kReasonBehindQueue);
}

TEST_F(EngineStateTest, RefusesWhatNoServerWouldMake) {
  const std::optional<Outcome> refused = Submit(Make(30, 20));
  ASSERT_TRUE(refused.has_value());
  EXPECT_THAT(refused->status, StatusIs(absl::StatusCode::kDeadlineExceeded, _));
  EXPECT_EQ(refused->reason, kReasonDeadlineTooShort);
  EXPECT_EQ(refused->retry_after_us, 0);
}

TEST_F(EngineStateTest, TriesAClassItKnowsNothingOf) {
  auto ticket = Make(30, 20);
  ticket->cost_class = 7;
  engine_.cost_model().Introduce(7, {.ns_per_projection_flop = 1});
  EXPECT_FALSE(Submit(std::move(ticket)).has_value());
}

TEST_F(EngineStateTest, AWrongPredictionIsTriedAgainAfterAWhile) {
  ASSERT_TRUE(Submit(Make(30, 20)).has_value());
  now_ += std::chrono::seconds(11);
  EXPECT_FALSE(Submit(Make(30, 20)).has_value());
}

TEST_F(EngineStateTest, RefusesBeyondTheLimitOfRequestsThatWait) {
  for (int i = 0; i < 30; ++i) Admit(1);
  const std::optional<Outcome> refused = Submit(Make(1));
  ASSERT_TRUE(refused.has_value());
  EXPECT_THAT(refused->status, StatusIs(absl::StatusCode::kResourceExhausted, ::testing::HasSubstr("30")));
  EXPECT_EQ(refused->reason, kReasonQueueFull);
  EXPECT_GE(refused->retry_after_us, 1'000);
}

TEST_F(EngineStateTest, RefusesTheDeadAtOnce) {
  auto cancelled = Make(1);
  cancelled->cancelled->Cancel();
  EXPECT_EQ(Submit(std::move(cancelled))->reason, kReasonCancelled);
  auto passed = Make(1);
  passed->deadline = now_;
  EXPECT_EQ(Submit(std::move(passed))->reason, kReasonDeadlinePassed);
  EXPECT_TRUE(engine_.idle());
}

TEST_F(EngineStateTest, CancelTakesAWaitingTicketOutAtOnce) {
  const TicketHandle first = Admit(10);
  const TicketHandle second = Admit(10);
  bool known = false;
  std::optional<FinishedTicket> ended = engine_.Cancel(now_, first, known);
  EXPECT_TRUE(known);
  ASSERT_TRUE(ended.has_value());
  EXPECT_THAT(ended->outcome.status, StatusIs(absl::StatusCode::kCancelled, _));
  EXPECT_EQ(engine_.GetBacklog(now_).num_waiting, 1);
  EXPECT_FALSE(engine_.Cancel(now_, first, known).has_value());
  EXPECT_FALSE(known);
  EXPECT_TRUE(engine_.Cancel(now_, second, known).has_value());
  EXPECT_TRUE(engine_.idle());
}

TEST_F(EngineStateTest, CancelSetsTheTokenOfARunningTicket) {
  const TicketHandle handle = Admit(10);
  Begin(Lane::kShort);
  bool known = false;
  EXPECT_FALSE(engine_.Cancel(now_, handle, known).has_value());
  EXPECT_TRUE(known);
  EXPECT_TRUE(batch_[0].tickets[0]->cancelled->IsCancelled());
  End(Lane::kShort);
  EXPECT_EQ(ended_.at(0).reason, kReasonCancelled);
}

TEST_F(EngineStateTest, DeadlinesEndWhatWaitsAndWhatRuns) {
  Admit(10, 200);
  Begin(Lane::kShort);
  Admit(10, 100);
  EXPECT_EQ(engine_.next_deadline(), now_ + milliseconds(100));
  now_ += milliseconds(100);
  std::vector<FinishedTicket> expired = engine_.Expire(now_);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_THAT(expired[0].outcome.status, StatusIs(absl::StatusCode::kDeadlineExceeded, _));
  EXPECT_EQ(expired[0].outcome.reason, kReasonDeadlinePassed);
  now_ += milliseconds(100);
  EXPECT_TRUE(engine_.Expire(now_).empty());
  EXPECT_TRUE(batch_[0].tickets[0]->cancelled->IsCancelled());
  EXPECT_EQ(engine_.next_deadline(), TimePoint::max());
  now_ += milliseconds(1);
  End(Lane::kShort);
  EXPECT_EQ(ended_.at(0).reason, kReasonDeadlinePassed);
}

TEST_F(EngineStateTest, AnErrorIsTheWholeBatches) {
  Admit(1);
  Admit(1);
  Begin(Lane::kShort);
  End(Lane::kShort, absl::ResourceExhaustedError("no memory"));
  ASSERT_EQ(ended_.size(), 2u);
  EXPECT_THAT(ended_[1].status, StatusIs(absl::StatusCode::kResourceExhausted, "no memory"));
  EXPECT_EQ(ended_[1].reason, kReasonMemory);
}

TEST_F(EngineStateTest, HeldBackTicketsComeWhileThereIsRoom) {
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(engine_.has_room_for_held_back());
    auto ticket = Make(12, 0);
    ticket->held_back = true;
    EXPECT_FALSE(Submit(std::move(ticket)).has_value());
  }
  EXPECT_FALSE(engine_.has_room_for_held_back()) << "60 ms wait";
  Run(Lane::kShort, 12);
  EXPECT_TRUE(engine_.has_room_for_held_back());
}

TEST_F(EngineStateTest, HeadersAreRefusedWhenTheBacklogAloneMissesTheDeadline) {
  for (int i = 0; i < 15; ++i) Admit(10);
  EXPECT_FALSE(engine_.DecideFromHeaders(now_, now_ + milliseconds(200), Caller{}).has_value());
  EXPECT_FALSE(engine_.DecideFromHeaders(now_, now_ + milliseconds(50), Caller{}).has_value())
      << "it would go ahead of those whose deadlines are later";
  now_ += milliseconds(60);  // nothing was computed meanwhile
  const auto refused = engine_.DecideFromHeaders(now_, now_ + milliseconds(141), Caller{});
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->reason, kReasonBehindQueue);
}

TEST_F(EngineStateTest, EstimatesWithoutAdmitting) {
  for (int i = 0; i < 18; ++i) Admit(10);
  const Estimate fits = engine_.EstimateTicket(now_, *Make(10));
  EXPECT_NEAR(fits.compute_us, 10'000, 200);
  EXPECT_NEAR(fits.queue_us, 180'000, 3'000);
  EXPECT_FALSE(fits.refusal.has_value());
  EXPECT_TRUE(engine_.EstimateTicket(now_, *Make(25)).refusal.has_value());
  EXPECT_EQ(engine_.GetBacklog(now_).num_waiting, 18);
}

TEST_F(EngineStateTest, AbandonEndsAllThatWaitsAndTellsWhatRuns) {
  Admit(10);
  Begin(Lane::kShort);
  Admit(10);
  Admit(10'000, 0);
  EXPECT_EQ(engine_.Abandon(now_, {absl::UnavailableError("bye"), kReasonDraining}).size(), 2u);
  EXPECT_TRUE(batch_[0].tickets[0]->cancelled->IsCancelled());
}

TEST_F(EngineStateTest, LongTicketsHaveALaneOfTheirOwn) {
  Admit(10'000, 0);
  Admit(10'000, 0);
  EXPECT_EQ(Begin(Lane::kShort), 0u);
  EXPECT_EQ(Begin(Lane::kLong), 1u);
  Admit(1);
  EXPECT_EQ(Begin(Lane::kShort), 1u) << "beside the long one";
}

TEST_F(OneLaneTest, WithoutALongLaneLongTicketsAreBatchesLikeOthers) {
  Admit(10'000, 0);
  EXPECT_EQ(Begin(Lane::kShort), 1u);
}

TEST_F(EngineStateTest, TheLongLaneKeepsAQuarterOfTheTime) {
  Admit(10'000, 0);
  Begin(Lane::kLong);
  for (int i = 0; i < 3; ++i) Admit(6);
  Run(Lane::kShort, 6);
  EXPECT_EQ(Begin(Lane::kShort), 0u);
  EXPECT_EQ(ask_again_, now_ + milliseconds(2));
  now_ += milliseconds(2);
  EXPECT_EQ(Begin(Lane::kShort), 1u);
}

TEST_F(EngineStateTest, AfterTheLongRunShortOnesNeedNotWait) {
  Admit(100, 0);
  Begin(Lane::kLong);
  Admit(6);
  Admit(6);
  Run(Lane::kShort, 6);
  End(Lane::kLong);
  EXPECT_EQ(Begin(Lane::kShort), 1u);
}

TEST_F(EngineStateTest, ALongRunsPausesAreNotItsTime) {
  Admit(100, 0);
  Begin(Lane::kLong);
  now_ += milliseconds(50);
  Admit(10);
  Run(Lane::kShort, 10);
  EXPECT_NEAR(engine_.GetBacklog(now_).long_running_ns, 50 * kNsPerMs, kNsPerMs);
  now_ += milliseconds(50);
  ended_.clear();
  End(Lane::kLong);
  EXPECT_EQ(ended_.at(0).compute_us, 100'000);
}

TEST_F(EngineStateTest, ShortOnesAreAdmittedWithTheLongLanesShareInMind) {
  Admit(10'000, 0);
  Begin(Lane::kLong);
  int admitted = 0;
  while (!Submit(Make(10)).has_value()) ++admitted;
  EXPECT_GE(admitted, 13);
  EXPECT_LE(admitted, 15) << "three quarters of 200 ms";
}

TEST_F(EngineStateTest, LongOnesAreAdmittedWithTheShortLoadInMind) {
  EXPECT_FALSE(engine_.EstimateTicket(now_, *Make(300, 5000)).refusal.has_value());
  // The short lane has run without a break until now (set-up): the long lane may count on its quarter alone.
  Admit(300, 5000);
  Begin(Lane::kLong);
  const int64_t behind_us = engine_.EstimateTicket(now_, *Make(300, 5000)).queue_us;
  EXPECT_NEAR(behind_us, 1'200'000, 60'000);
  now_ += std::chrono::seconds(10);  // in which it did nothing
  End(Lane::kLong, absl::InternalError("not to be learnt from"));
  Admit(300, 5000);
  Begin(Lane::kLong);
  EXPECT_NEAR(engine_.EstimateTicket(now_, *Make(300, 5000)).queue_us, 300'000, 15'000);
}

}  // namespace
}  // namespace headlight
