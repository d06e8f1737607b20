// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/exchange_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace headlight {
namespace {

using ::testing::ElementsAre;

// Replies are the numbers of their requests, verdicts are words.
using State = ExchangeState<uint64_t, std::string>;

constexpr ExchangeRules kUnary{};
constexpr ExchangeRules kStream{.unary = false, .window = 3};
constexpr ExchangeRules kOrdered{.unary = false, .window = 3, .order = ReplyOrder::kAsRequested};

TEST(ExchangeStateTest, AUnaryExchangeReadsOnceAndAnswersWithItsStatus) {
  State state(kUnary);
  EXPECT_TRUE(state.Begin().read);
  const auto number = state.MessageCame();
  ASSERT_EQ(number, 0u);
  EXPECT_FALSE(state.Proceed().read);
  const State::Step step = state.Answer(*number, 7);
  EXPECT_EQ(step.write, 7u);
  EXPECT_EQ(step.finish, "");
  EXPECT_TRUE(state.finished());
}

TEST(ExchangeStateTest, ARefusalBeforeTheMessageEndsTheExchangeUnread) {
  State state(kUnary);
  const State::Step step = state.End("behind the queue");
  EXPECT_FALSE(step.read);
  EXPECT_EQ(step.finish, "behind the queue");
}

TEST(ExchangeStateTest, AStreamReadsUpToItsWindow) {
  State state(kStream);
  EXPECT_TRUE(state.Begin().read);
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_EQ(state.MessageCame(), i);
    EXPECT_EQ(state.Proceed().read, i < 2);
  }
  EXPECT_EQ(state.Answer(1, 1).write, 1u);
  EXPECT_TRUE(state.WriteDone(true).read);
}

TEST(ExchangeStateTest, RepliesGoOutAsTheyAreReadyOrAsTheyWereRequested) {
  for (const ExchangeRules& rules : {kStream, kOrdered}) {
    State state(rules);
    state.Begin();
    for (int i = 0; i < 3; ++i) {
      state.MessageCame();
      state.Proceed();
    }
    std::vector<uint64_t> written;
    const auto note = [&](State::Step step) {
      while (step.write) {
        written.push_back(*step.write);
        step = state.WriteDone(true);
      }
    };
    for (uint64_t number : {2, 0, 1}) note(state.Answer(number, number));
    if (rules.order == ReplyOrder::kAsReady) {
      EXPECT_THAT(written, ElementsAre(2, 0, 1));
    } else {
      EXPECT_THAT(written, ElementsAre(0, 1, 2));
    }
  }
}

TEST(ExchangeStateTest, AFailureIsPassedOverAndEndsTheStreamWhenTheRestIsAnswered) {
  State state(kOrdered);
  state.Begin();
  for (int i = 0; i < 2; ++i) {
    state.MessageCame();
    state.Proceed();
  }
  EXPECT_FALSE(state.Fail(0, "broken").finish);
  EXPECT_EQ(state.Answer(1, 1).write, 1u);
  EXPECT_EQ(state.WriteDone(true).finish, "broken");
}

TEST(ExchangeStateTest, AMessageThatComesAfterTheEndIsNoRequest) {
  State state(kStream);
  state.Begin();
  EXPECT_EQ(state.End("shutting down").finish, "shutting down");
  EXPECT_EQ(state.MessageCame(), std::nullopt);
  EXPECT_FALSE(state.Proceed().read);
}

TEST(ExchangeStateTest, WhileReadsAreHeldNoneBegins) {
  State state(kStream);
  EXPECT_FALSE(state.HoldReads(true).read);
  EXPECT_FALSE(state.Proceed().read);
  EXPECT_TRUE(state.HoldReads(false).read);
}

TEST(ExchangeStateTest, ABrokenWriteLosesWhatWaitsForIt) {
  State state(kStream);
  state.Begin();
  for (int i = 0; i < 3; ++i) {
    state.MessageCame();
    state.Proceed();
  }
  EXPECT_EQ(state.Answer(0, 0).write, 0u);
  EXPECT_FALSE(state.Answer(1, 1).write);
  EXPECT_FALSE(state.WriteDone(false).finish);  // request 2 has not come back
  EXPECT_EQ(state.unanswered(), 1);
  EXPECT_EQ(state.Answer(2, 2).finish, "");
}

// Whatever happens in whatever order: at most one read and one write under way, every request that was
// accepted is written once or lost with the transport, and there is exactly one finish, after which nothing
// is started.
TEST(ExchangeStateTest, HoldsItsPromisesOnEveryWay) {
  for (uint32_t seed = 0; seed < 20'000; ++seed) {
    std::mt19937 random(seed);
    const ExchangeRules rules = seed % 3 == 0 ? kUnary : seed % 3 == 1 ? kStream : kOrdered;
    State state(rules);
    bool reading = false, writing = false, broken = false;
    int finishes = 0;
    std::set<uint64_t> under_way, written;
    uint64_t accepted = 0;
    const auto apply = [&](const State::Step& step) {
      if (step.read) {
        ASSERT_FALSE(reading || finishes > 0) << seed;
        reading = true;
      }
      if (step.write) {
        ASSERT_FALSE(writing || finishes > 0 || broken) << seed;
        ASSERT_TRUE(written.insert(*step.write).second) << seed;
        writing = !rules.unary;
      }
      if (step.finish) ++finishes;
      ASSERT_LE(finishes, 1) << seed;
      ASSERT_LE(state.unanswered(), rules.window) << seed;
    };
    apply(state.Begin());
    for (int event = 0; event < 60; ++event) {
      switch (random() % 9) {
        case 0:
        case 1:
        case 2:
          if (!reading) break;
          reading = false;
          if (const auto number = state.MessageCame()) {
            ASSERT_EQ(*number, accepted++);
            under_way.insert(*number);
          }
          apply(state.Proceed());
          break;
        case 3:
        case 4: {
          if (under_way.empty()) break;
          auto some = under_way.begin();
          std::advance(some, random() % under_way.size());
          const uint64_t number = *some;
          under_way.erase(some);
          apply(random() % 8 == 0 ? state.Fail(number, "failed") : state.Answer(number, number));
          break;
        }
        case 5:
          if (!writing) break;
          writing = false;
          apply(state.WriteDone(!broken));
          break;
        case 6:
          if (random() % 8 != 0) break;
          broken = true;
          apply(state.Cancelled());
          break;
        case 7:
          if (random() % 8 != 0) break;
          apply(state.End("ending"));
          break;
        case 8:
          if (!reading || random() % 8 != 0) break;
          reading = false;
          apply(state.NoMoreMessages());
          break;
      }
    }
    apply(state.End("over"));
    for (uint64_t number : std::set<uint64_t>(under_way)) apply(state.Answer(number, number));
    while (writing) {
      writing = false;
      apply(state.WriteDone(!broken));
    }
    ASSERT_EQ(finishes, 1) << seed;
    ASSERT_EQ(state.unanswered(), rules.unary && finishes == 1 && !written.empty() ? 1 : 0) << seed;
  }
}

}  // namespace
}  // namespace headlight
