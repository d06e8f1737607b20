// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <optional>

#include "tests/server/schedule/schedule_times.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using testing::kNow;
using testing::kNsPerMs;
using testing::StatusIs;

Ticket MakeTicket(double own_ms, int64_t deadline_ms) {
  Ticket ticket;
  ticket.arrival = kNow;
  ticket.deadline = kNow + milliseconds(deadline_ms);
  ticket.predicted_ns = static_cast<int64_t>(own_ms * kNsPerMs);
  return ticket;
}

WorkAhead Waiting(double running_ms, double waiting_ms) {
  WorkAhead ahead;
  ahead.idle = false;
  ahead.running_ns = running_ms * kNsPerMs;
  ahead.waiting_ns = waiting_ms * kNsPerMs;
  return ahead;
}

class AdmissionTest : public ::testing::Test {
 protected:
  // Predictions that proved right, so that margins are small.
  AdmissionTest() {
    for (int i = 0; i < 2000; ++i)
      admission_.Observe(10 * kNsPerMs, 100 * kNsPerMs * kNsPerMs, 10 * kNsPerMs);
  }

  std::optional<Refusal> Decide(const Ticket& ticket, const WorkAhead& ahead, bool probe = false) {
    return admission_.Decide(kNow, ticket, ahead, probe);
  }

  Admission admission_{AdmissionOptions{}};
};

TEST_F(AdmissionTest, LetsInWhatFitsBehindTheQueue) {
  EXPECT_FALSE(Decide(MakeTicket(10, 200), Waiting(10, 170)).has_value());
}

TEST_F(AdmissionTest, RefusesWhatDoesNotFitBehindTheQueueAndSaysWhenItDrains) {
  const std::optional<Refusal> refusal = Decide(MakeTicket(10, 200), Waiting(10, 185));
  ASSERT_TRUE(refusal.has_value());
  EXPECT_THAT(refusal->status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("195.0 ms")));
  EXPECT_EQ(refusal->reason, kReasonBehindQueue);
  EXPECT_EQ(refusal->retry_after_us, 195'000);
}

TEST_F(AdmissionTest, RefusesWhatAnIdleServerWouldNotMakeAndSaysWhatItTakes) {
  const std::optional<Refusal> refusal = Decide(MakeTicket(300, 200), WorkAhead{});
  ASSERT_TRUE(refusal.has_value());
  EXPECT_THAT(refusal->status, StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("200.0 ms")));
  EXPECT_EQ(refusal->reason, kReasonDeadlineTooShort);
  EXPECT_EQ(refusal->retry_after_us, 0);
  EXPECT_TRUE(Decide(MakeTicket(300, 200), Waiting(1, 0), /*probe=*/true).has_value())
      << "a busy server tries nothing";
  EXPECT_FALSE(Decide(MakeTicket(300, 200), WorkAhead{}, /*probe=*/true).has_value());
}

TEST_F(AdmissionTest, RefusesWhatWouldMakeOthersLate) {
  WorkAhead ahead = Waiting(0, 10);
  ahead.slack_behind_ns = 5 * kNsPerMs;
  EXPECT_FALSE(Decide(MakeTicket(4, 200), ahead).has_value());
  ASSERT_TRUE(Decide(MakeTicket(6, 200), ahead).has_value());
  EXPECT_EQ(Decide(MakeTicket(6, 200), ahead)->reason, kReasonBehindQueue);
  ahead.slack_behind_ns = -1;  // late anyway
  EXPECT_FALSE(Decide(MakeTicket(6, 200), ahead).has_value());
}

TEST_F(AdmissionTest, ReckonsWithThoseWhoShareTheCores) {
  WorkAhead ahead = Waiting(0, 140);
  EXPECT_FALSE(Decide(MakeTicket(10, 200), ahead).has_value());
  ahead.slowdown = 4.0 / 3;  // 150 ms become 200
  EXPECT_TRUE(Decide(MakeTicket(10, 200), ahead).has_value());
  ahead.slowdown_limit_ns = 20 * kNsPerMs;  // but they are done soon
  EXPECT_FALSE(Decide(MakeTicket(10, 200), ahead).has_value());
}

TEST_F(AdmissionTest, NeverRefusesHeldBackTicketsForLoad) {
  Ticket ticket = MakeTicket(10, 200);
  ticket.held_back = true;
  EXPECT_FALSE(Decide(ticket, Waiting(0, 10'000)).has_value());
}

TEST_F(AdmissionTest, WithoutADeadlineNothingIsTooLate) {
  Ticket ticket = MakeTicket(10, 200);
  ticket.deadline = TimePoint::max();
  EXPECT_FALSE(Decide(ticket, Waiting(0, 10'000)).has_value());
}

TEST_F(AdmissionTest, CorrectsPredictionsThatAreWrongOfLate) {
  for (int i = 0; i < 2000; ++i) admission_.Observe(10 * kNsPerMs, 100 * kNsPerMs * kNsPerMs, 20 * kNsPerMs);
  EXPECT_NEAR(admission_.correction(), 2, 0.1);
  EXPECT_TRUE(Decide(MakeTicket(10, 200), Waiting(10, 120)).has_value());
}

TEST_F(AdmissionTest, KeepsMoreTimeFreeAfterLateTickets) {
  for (int i = 0; i < 500; ++i) {  // 9 or 11 ms: a deviation of 10 %
    admission_.Observe(10 * kNsPerMs, 100 * kNsPerMs * kNsPerMs, (i % 2 == 0 ? 9 : 11) * kNsPerMs);
  }
  WorkAhead ahead = Waiting(0, 165);
  ahead.squares_ns2 = 16 * 100 * kNsPerMs * kNsPerMs;
  ASSERT_FALSE(Decide(MakeTicket(10, 200), ahead).has_value());
  for (int i = 0; i < 100; ++i) admission_.Ended(/*late=*/true);
  EXPECT_FALSE(Decide(MakeTicket(10, 300), ahead).has_value()) << "caution has a limit";
  ahead.waiting_ns = 175 * kNsPerMs;
  EXPECT_TRUE(Decide(MakeTicket(10, 200), ahead).has_value());
}

TEST_F(AdmissionTest, RefusesAllSizesAlikeWhileManyAreRefused) {
  const WorkAhead ahead = Waiting(0, 180);
  ASSERT_FALSE(Decide(MakeTicket(1, 200), ahead).has_value());
  for (int i = 0; i < 1000; ++i) admission_.Decided(MakeTicket(25, 200), /*admitted=*/i % 2 == 0);
  EXPECT_TRUE(Decide(MakeTicket(1, 200), ahead).has_value());
  EXPECT_TRUE(Decide(MakeTicket(25, 200), ahead).has_value());
  EXPECT_FALSE(Decide(MakeTicket(25, 200), Waiting(0, 160)).has_value());
}

TEST_F(AdmissionTest, DecidesFromHeadersWhereTheBacklogAloneIsTooMuch) {
  const TimePoint deadline = kNow + milliseconds(200);
  EXPECT_FALSE(admission_.DecideFromHeaders(kNow, deadline, Waiting(10, 180)).has_value());
  EXPECT_FALSE(admission_.DecideFromHeaders(kNow, TimePoint::max(), Waiting(10, 10'000)).has_value());
  EXPECT_FALSE(admission_.DecideFromHeaders(kNow, deadline, WorkAhead{}).has_value());
  const std::optional<Refusal> refusal = admission_.DecideFromHeaders(kNow, deadline, Waiting(10, 200));
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->reason, kReasonBehindQueue);
  const std::optional<Refusal> passed = admission_.DecideFromHeaders(kNow, kNow, WorkAhead{});
  ASSERT_TRUE(passed.has_value());
  EXPECT_EQ(passed->reason, kReasonDeadlinePassed);
}

}  // namespace
}  // namespace headlight
