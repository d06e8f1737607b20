// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/retry_budget.h"

#include <gtest/gtest.h>

#include <chrono>

namespace headlight::client {
namespace {

using namespace std::chrono_literals;

constexpr RetryBudget::Time kBegin{std::chrono::hours(1)};

// How many retries there are when each of `calls` a second wants one, for `length`.
int Retries(RetryBudget& budget, int calls_per_s, std::chrono::seconds length) {
  int retries = 0;
  for (int i = 0; i < calls_per_s * length.count(); ++i) {
    const RetryBudget::Time now = kBegin + i * 1'000'000'000ns / calls_per_s;
    budget.NoteCall(now);
    if (budget.TakeRetry(now)) ++retries;
  }
  return retries;
}

TEST(RetryBudgetTest, RetriesAreAShareOfCallsAndAReserve) {
  RetryBudget budget({.budget_ratio = 0.2, .budget_reserve = 10});
  const int retries = Retries(budget, 100, 60s);  // 6000 calls
  EXPECT_GE(retries, 1200);
  EXPECT_LE(retries, 1200 + 10 + 60 * 10 / 10);
  EXPECT_EQ(budget.retries(), retries);
}

TEST(RetryBudgetTest, WhoCallsSeldomMayTryAgain) {
  RetryBudget budget({.budget_ratio = 0.2, .budget_reserve = 10});
  for (int minute = 0; minute < 5; ++minute) {
    const RetryBudget::Time now = kBegin + std::chrono::minutes(minute);
    budget.NoteCall(now);
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(budget.TakeRetry(now));
    EXPECT_FALSE(budget.TakeRetry(now));
  }
}

TEST(RetryBudgetTest, CallsOfLongAgoCountNoMore) {
  RetryBudget budget({.budget_ratio = 0.2, .budget_reserve = 0});
  for (int i = 0; i < 1000; ++i) budget.NoteCall(kBegin);
  int retries = 0;
  while (budget.TakeRetry(kBegin + 10 * RetryBudget::kMemory)) ++retries;
  EXPECT_EQ(retries, 0);
  for (int i = 0; i < 1000; ++i) budget.NoteCall(kBegin + 10 * RetryBudget::kMemory);
  while (budget.TakeRetry(kBegin + 10 * RetryBudget::kMemory)) ++retries;
  EXPECT_EQ(retries, 200);
}

TEST(RetryBudgetTest, NothingMeansNoRetry) {
  RetryBudget budget({.budget_ratio = 0, .budget_reserve = 0});
  EXPECT_EQ(Retries(budget, 100, 10s), 0);
}

}  // namespace
}  // namespace headlight::client
