// SPDX-License-Identifier: Apache-2.0
#include "server/memory/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::StatusIs;

constexpr auto kMessage = MemoryKind::kMessage;
constexpr auto kBatch = MemoryKind::kBatch;
constexpr auto kReply = MemoryKind::kReply;
constexpr auto kModel = MemoryKind::kModel;

TEST(MemoryBudgetTest, ALeaseCountsUntilItIsGone) {
  MemoryBudget budget(1000);
  {
    const std::optional<Lease> lease = budget.TryReserve(kMessage, 600);
    ASSERT_TRUE(lease.has_value());
    EXPECT_EQ(lease->bytes(), 600);
    EXPECT_EQ(budget.Held(kMessage), 600);
    EXPECT_EQ(budget.held(), 600);
  }
  EXPECT_EQ(budget.held(), 0);
  EXPECT_EQ(budget.peak_held(), 600);
  budget.ResetPeak();
  EXPECT_EQ(budget.peak_held(), 0);
}

TEST(MemoryBudgetTest, WhatDoesNotFitIsRefusedAndCountsNothing) {
  MemoryBudget budget(1000);
  const std::optional<Lease> first = budget.TryReserve(kMessage, 600);
  EXPECT_FALSE(budget.TryReserve(kBatch, 401).has_value());
  EXPECT_EQ(budget.held(), 600);
  EXPECT_TRUE(budget.TryReserve(kBatch, 400).has_value());
}

TEST(MemoryBudgetTest, RefusalsHaveBothNumbers) {
  MemoryBudget budget(1000);
  const std::optional<Lease> first = budget.TryReserve(kMessage, 600);
  EXPECT_THAT(budget.Reserve(kBatch, 500),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       "memory is short: the request takes 500 bytes, of the 1000 bytes for requests "
                       "(--memory-limit) 400 are free"));
  EXPECT_THAT(budget.Reserve(kModel, 500),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       "memory is short: the model takes 500 bytes, of the 1000 bytes for models "
                       "(--memory-limit) 400 are free"));
  EXPECT_THAT(
      budget.Reserve(kBatch, 1001),
      StatusIs(absl::StatusCode::kInvalidArgument,
               "the request takes 1001 bytes, of the 1000 bytes that an empty server has for requests "
               "(--memory-limit)"));
  EXPECT_THAT(budget.NeverFits(1000), IsOk());
  EXPECT_THAT(budget.NeverFits(1001), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));
}

TEST(MemoryBudgetTest, RequestsLeaveTheModelsShareAlone) {
  MemoryBudget budget({.limit = 1000, .models_reserved = 300, .requests_reserved = 200});
  EXPECT_EQ(budget.limit_of_requests(), 700);
  std::optional<Lease> requests = budget.TryReserve(kMessage, 700);
  ASSERT_TRUE(requests.has_value());
  EXPECT_FALSE(budget.TryReserve(kMessage, 1).has_value());
  std::optional<Lease> model = budget.TryReserve(kModel, 300);
  EXPECT_TRUE(model.has_value());
  requests->Release();
  EXPECT_TRUE(model->Resize(800));
  EXPECT_FALSE(model->Resize(801));
  EXPECT_THAT(budget.NeverFits(201), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));
}

TEST(MemoryBudgetTest, ResizingGoesDownAlwaysAndUpIfThereIsRoom) {
  MemoryBudget budget(1000);
  Lease lease = *budget.TryReserve(kMessage, 500);
  EXPECT_TRUE(lease.Resize(200));
  EXPECT_EQ(budget.held(), 200);
  EXPECT_TRUE(lease.Resize(1000));
  EXPECT_FALSE(lease.Resize(1001));
  EXPECT_EQ(lease.bytes(), 1000);
  EXPECT_EQ(budget.held(), 1000);
}

TEST(MemoryBudgetTest, SplitAndRelabelMoveBytesWithoutTakingAny) {
  MemoryBudget budget(1000);
  Lease whole = *budget.TryReserve(kBatch, 1000);
  Lease part = whole.Split(300);
  part.Relabel(kReply);
  EXPECT_EQ(budget.Held(kBatch), 700);
  EXPECT_EQ(budget.Held(kReply), 300);
  whole.Release();
  EXPECT_EQ(budget.held(), 300);
}

TEST(MemoryBudgetTest, MovingGivesNothingBackTwice) {
  MemoryBudget budget(1000);
  Lease a = *budget.TryReserve(kMessage, 100);
  Lease b = *budget.TryReserve(kMessage, 50);
  b = std::move(a);
  EXPECT_EQ(budget.held(), 100);
  const Lease c = std::move(b);
  EXPECT_EQ(budget.held(), 100);
}

TEST(MemoryBudgetTest, ALeaseMayOutliveTheBudget) {
  auto budget = std::make_unique<MemoryBudget>(1000);
  Lease lease = *budget->TryReserve(kMessage, 500);
  budget.reset();
  EXPECT_TRUE(lease.Resize(100));
}

TEST(MemoryBudgetTest, WaitersAreServedInTheirOrderByWhoeverGivesBack) {
  MemoryBudget budget(1000);
  Lease lease = *budget.TryReserve(kMessage, 900);
  std::vector<Lease> served;
  const auto keep = [&](absl::StatusOr<Lease> got) { served.push_back(*std::move(got)); };
  budget.WhenRoom(kMessage, 600, keep);
  budget.WhenRoom(kMessage, 50, keep);  // there would be room, but others came before
  EXPECT_TRUE(served.empty());
  EXPECT_TRUE(budget.IsAwaited());
  EXPECT_TRUE(lease.Resize(401));
  EXPECT_TRUE(served.empty());
  EXPECT_TRUE(lease.Resize(400));
  ASSERT_EQ(served.size(), 1u);
  EXPECT_EQ(served[0].bytes(), 600);
  lease.Release();
  ASSERT_EQ(served.size(), 2u);
  EXPECT_EQ(budget.held(), 650);
  EXPECT_FALSE(budget.IsAwaited());
}

TEST(MemoryBudgetTest, WithRoomNobodyWaits) {
  MemoryBudget budget(1000);
  int64_t got_bytes = 0;
  budget.WhenRoom(kMessage, 1000, [&](absl::StatusOr<Lease> got) { got_bytes = got->bytes(); });
  EXPECT_EQ(got_bytes, 1000);
  EXPECT_EQ(budget.held(), 0);
}

TEST(MemoryBudgetTest, ACancelledWaitIsNotCalledAndHoldsUpNobody) {
  MemoryBudget budget(1000);
  const Lease lease = *budget.TryReserve(kMessage, 500);
  bool called = false;
  const uint64_t wait = budget.WhenRoom(kMessage, 600, [&](absl::StatusOr<Lease>) { called = true; });
  std::optional<Lease> next;
  budget.WhenRoom(kMessage, 500, [&](absl::StatusOr<Lease> got) { next = *std::move(got); });
  EXPECT_FALSE(next.has_value());
  EXPECT_TRUE(budget.CancelWait(wait));
  EXPECT_TRUE(next.has_value());
  EXPECT_FALSE(called);
  EXPECT_FALSE(budget.CancelWait(wait));
}

TEST(MemoryBudgetTest, NobodyWaitsForWhatNeverComes) {
  MemoryBudget budget({.limit = 1000, .models_reserved = 100, .requests_reserved = 100});
  absl::Status status;
  const auto note = [&](absl::StatusOr<Lease> got) { status = got.status(); };
  budget.WhenRoom(kMessage, 901, note);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));

  Lease lease = *budget.TryReserve(kMessage, 500);
  status = absl::OkStatus();
  budget.WhenRoom(kMessage, 600, note);
  const std::optional<Lease> model = budget.TryReserve(kModel, 450);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, ::testing::_));
}

TEST(MemoryBudgetTest, ALongLineThatIsGivenBackAtOnceIsNoDeepStack) {
  MemoryBudget budget(1000);
  Lease lease = *budget.TryReserve(kMessage, 1000);
  constexpr int kWaiters = 200'000;
  int called = 0;
  for (int i = 0; i < kWaiters; ++i) {
    budget.WhenRoom(kMessage, 1000, [&](absl::StatusOr<Lease>) { ++called; });
  }
  lease.Release();
  EXPECT_EQ(called, kWaiters);
  EXPECT_EQ(budget.held(), 0);
}

TEST(MemoryBudgetTest, WhatIsKeptIdleIsAskedForBeforeAnybodyIsRefused) {
  MemoryBudget budget(1000);
  Lease idle = *budget.TryReserve(MemoryKind::kWorkspace, 800);
  std::vector<int64_t> asked;
  auto reclaimer = std::make_shared<const MemoryBudget::Reclaimer>([&](int64_t bytes) {
    asked.push_back(bytes);
    idle.Resize(idle.bytes() - bytes);
  });
  budget.AddReclaimer(reclaimer);
  const std::optional<Lease> lease = budget.TryReserve(kMessage, 500);
  EXPECT_TRUE(lease.has_value());
  EXPECT_THAT(asked, ::testing::ElementsAre(300));
  bool called = false;
  budget.WhenRoom(kMessage, 100, [&](absl::StatusOr<Lease>) { called = true; });
  EXPECT_TRUE(called);
  EXPECT_THAT(asked, ::testing::ElementsAre(300, 100));
  reclaimer.reset();
  EXPECT_FALSE(budget.TryReserve(kMessage, 500).has_value());
  EXPECT_EQ(asked.size(), 2u);
}

// Threads take, split, relabel, wait, cancel and give back at random: never more than the limit, nothing
// left.
TEST(MemoryBudgetStressTest, ThreadsNeverHoldMoreThanTheLimitAndLeaveNothing) {
  constexpr int kThreads = 4;
  constexpr int kSteps = 20'000;
  constexpr int64_t kLimitBytes = 1000;
  MemoryBudget budget({.limit = kLimitBytes, .models_reserved = 100, .requests_reserved = 100});
  std::atomic<int64_t> num_waits = 0;
  std::atomic<int64_t> num_answers = 0;
  const auto work = [&](int seed) {
    std::minstd_rand random(seed);
    std::vector<Lease> mine;
    for (int step = 0; step < kSteps; ++step) {
      const int64_t bytes = random() % 300;
      switch (random() % 6) {
        case 0:
        case 1:
          if (auto lease = budget.TryReserve(random() % 4 == 0 ? kModel : kMessage, bytes)) {
            mine.push_back(*std::move(lease));
          }
          break;
        case 2:
          if (!mine.empty()) mine.push_back(mine.back().Split(mine.back().bytes() / 2));
          break;
        case 3:
          if (!mine.empty() && mine.back().kind() != kModel) mine.back().Relabel(kReply);
          break;
        case 4: {
          ++num_waits;
          const uint64_t wait = budget.WhenRoom(kBatch, bytes, [&](absl::StatusOr<Lease>) { ++num_answers; });
          if (random() % 2 == 0 && budget.CancelWait(wait)) ++num_answers;
          break;
        }
        default:
          mine.clear();
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i + 1);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_answers, num_waits);
  EXPECT_EQ(budget.held(), 0);
  EXPECT_LE(budget.peak_held(), kLimitBytes);
}

}  // namespace
}  // namespace headlight
