// SPDX-License-Identifier: Apache-2.0
#include "server/memory/buffer_pool.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "server/memory/memory_budget.h"

namespace headlight {
namespace {

TEST(BufferPoolTest, ABufferComesBackWhenItsLastHolderLetsGo) {
  BufferPool pool(1 << 20);
  std::shared_ptr<Buffer> buffer = pool.Acquire(1000);
  ASSERT_NE(buffer, nullptr);
  const std::byte* const block = buffer->bytes();
  std::shared_ptr<Buffer> other_holder = buffer;
  buffer.reset();
  EXPECT_EQ(pool.idle_bytes(), 0);
  other_holder.reset();
  EXPECT_GE(pool.idle_bytes(), 1000);
  EXPECT_EQ(pool.Acquire(500)->bytes(), block);
}

TEST(BufferPoolTest, BuffersInUseAreNotHandedOutTwice) {
  BufferPool pool(1 << 20);
  const std::shared_ptr<Buffer> a = pool.Acquire(100);
  const std::shared_ptr<Buffer> b = pool.Acquire(100);
  EXPECT_NE(a->bytes(), b->bytes());
}

TEST(BufferPoolTest, TakesTheSmallestThatFits) {
  BufferPool pool(1 << 20);
  std::shared_ptr<Buffer> large = pool.Acquire(10000);
  std::shared_ptr<Buffer> small = pool.Acquire(100);
  const std::byte* const small_block = small->bytes();
  large.reset();
  small.reset();
  EXPECT_EQ(pool.Acquire(50)->bytes(), small_block);
}

TEST(BufferPoolTest, OneThatIsTooSmallMakesRoom) {
  BufferPool pool(1 << 20);
  pool.Acquire(64);
  EXPECT_EQ(pool.idle_bytes(), 64);
  const std::shared_ptr<Buffer> larger = pool.Acquire(1000);
  EXPECT_GE(larger->size_bytes(), 1000);
  EXPECT_EQ(pool.idle_bytes(), 0);
}

TEST(BufferPoolTest, KeepsNoMoreThanItMay) {
  BufferPool pool(1000);
  std::shared_ptr<Buffer> a = pool.Acquire(640);
  std::shared_ptr<Buffer> b = pool.Acquire(640);
  a.reset();
  b.reset();
  EXPECT_EQ(pool.idle_bytes(), 640);
}

TEST(BufferPoolTest, ABufferMayOutliveThePool) {
  auto pool = std::make_unique<BufferPool>(1000);
  const std::shared_ptr<Buffer> buffer = pool->Acquire(64);
  pool.reset();
  buffer->bytes()[0] = std::byte{1};
}

TEST(BufferPoolTest, SaysWhenMemoryIsShort) {
  BufferPool pool(1000);
  EXPECT_EQ(pool.Acquire(std::numeric_limits<int64_t>::max()), nullptr);
}

TEST(BufferPoolTest, ABufferOfMoreThanTwiceTheSizeStaysForThoseWhoNeedIt) {
  BufferPool pool(1 << 20);
  std::shared_ptr<Buffer> large = pool.Acquire(100'032);
  const std::byte* const large_block = large->bytes();
  large.reset();
  const std::shared_ptr<Buffer> small = pool.Acquire(50'000);
  EXPECT_NE(small->bytes(), large_block);
  EXPECT_EQ(pool.idle_bytes(), 100'032);
  EXPECT_EQ(pool.Acquire(50'016)->bytes(), large_block);
}

TEST(BufferPoolTest, TrimFreesWhatLayIdleSinceTheTrimBefore) {
  BufferPool pool(1 << 20);
  std::shared_ptr<Buffer> a = pool.Acquire(6400);
  std::shared_ptr<Buffer> b = pool.Acquire(64'000);
  a.reset();
  b.reset();
  EXPECT_EQ(pool.Trim(), 0);
  pool.Acquire(6400);  // comes back at once
  EXPECT_EQ(pool.Trim(), 64'000);
  EXPECT_EQ(pool.idle_bytes(), 6400);
  EXPECT_EQ(pool.Trim(), 6400);
}

TEST(BufferPoolTest, ShrinkingFreesWhatRestsLongest) {
  BufferPool pool(1 << 20);
  std::shared_ptr<Buffer> first = pool.Acquire(64'000);
  std::shared_ptr<Buffer> second = pool.Acquire(6400);
  first.reset();
  second.reset();
  EXPECT_EQ(pool.ShrinkTo(70'399), 64'000);
  EXPECT_EQ(pool.idle_bytes(), 6400);
}

TEST(BufferPoolTest, BytesAreCountedAsWhatTheyAreUsedFor) {
  MemoryBudget budget(1 << 20);
  BufferPool pool(1 << 20, &budget);
  std::shared_ptr<PooledBuffer> buffer = pool.Acquire(1000);
  const int64_t bytes = buffer->size_bytes();
  EXPECT_EQ(budget.Held(MemoryKind::kBatch), bytes);
  buffer->Relabel(MemoryKind::kReply);
  EXPECT_EQ(budget.Held(MemoryKind::kBatch), 0);
  EXPECT_EQ(budget.Held(MemoryKind::kReply), bytes);
  buffer.reset();
  EXPECT_EQ(budget.Held(MemoryKind::kReply), 0);
  EXPECT_EQ(budget.Held(MemoryKind::kWorkspace), bytes);
  buffer = pool.Acquire(1000);
  EXPECT_EQ(budget.Held(MemoryKind::kBatch), bytes);
  EXPECT_EQ(budget.held(), bytes);
}

TEST(BufferPoolTest, NothingIsAllocatedWithoutRoom) {
  MemoryBudget budget(1000);
  BufferPool pool(1000, &budget);
  const std::shared_ptr<Buffer> buffer = pool.Acquire(640);
  EXPECT_EQ(pool.Acquire(640), nullptr);
  EXPECT_EQ(budget.held(), 640);
}

TEST(BufferPoolTest, IdleBuffersGoWhereTheBudgetIsShort) {
  MemoryBudget budget(1000);
  BufferPool pool(1000, &budget);
  pool.Acquire(640);
  EXPECT_EQ(pool.idle_bytes(), 640);
  EXPECT_TRUE(budget.TryReserve(MemoryKind::kMessage, 500).has_value());
  EXPECT_EQ(pool.idle_bytes(), 0);
}

TEST(BufferPoolTest, NothingIsKeptWhileSomebodyWaitsForRoom) {
  MemoryBudget budget(1000);
  BufferPool pool(1000, &budget);
  std::shared_ptr<Buffer> buffer = pool.Acquire(640);
  bool served = false;
  budget.WhenRoom(MemoryKind::kMessage, 500, [&](absl::StatusOr<Lease>) { served = true; });
  EXPECT_FALSE(served);
  buffer.reset();
  EXPECT_TRUE(served);
  EXPECT_EQ(pool.idle_bytes(), 0);
}

TEST(BufferPoolTest, ABufferTakesOverWhatWasReservedForIt) {
  MemoryBudget budget(1024);
  BufferPool pool(1024, &budget);
  Lease reserved = *budget.TryReserve(MemoryKind::kQueue, 1024);
  const std::shared_ptr<Buffer> first = pool.Acquire(640, reserved);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(reserved.bytes(), 384);
  EXPECT_EQ(budget.Held(MemoryKind::kBatch), 640);
  EXPECT_EQ(budget.held(), 1024);
  EXPECT_EQ(pool.Acquire(448, reserved), nullptr);  // 64 more than there are
}

TEST(BufferPoolTest, WhatOutlivesThePoolIsGivenBackToTheBudget) {
  MemoryBudget budget(1000);
  auto pool = std::make_unique<BufferPool>(1000, &budget);
  std::shared_ptr<Buffer> buffer = pool->Acquire(64);
  pool.reset();
  EXPECT_EQ(budget.held(), 64);
  buffer.reset();
  EXPECT_EQ(budget.held(), 0);
}

TEST(BufferPoolStressTest, ThreadsShareAPoolAndABudgetAndLeaveNothing) {
  constexpr int kThreads = 4;
  constexpr int kSteps = 5000;
  MemoryBudget budget(100'000);
  {
    BufferPool pool(50'000, &budget);
    const auto work = [&](int seed) {
      for (int step = 0; step < kSteps; ++step) {
        const std::shared_ptr<PooledBuffer> buffer = pool.Acquire(64 * ((step * seed) % 500));
        if (buffer != nullptr) buffer->Relabel(MemoryKind::kReply);
        if (step % 100 == 0) pool.Trim();
        if (step % 7 == 0) budget.WhenRoom(MemoryKind::kMessage, 20'000, [](absl::StatusOr<Lease>) {});
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, 2 * i + 1);
    for (std::thread& thread : threads) thread.join();
    EXPECT_FALSE(budget.IsAwaited());
    EXPECT_EQ(budget.held(), pool.idle_bytes());
  }
  EXPECT_EQ(budget.held(), 0);
  EXPECT_LE(budget.peak_held(), 100'000);
}

}  // namespace
}  // namespace headlight
