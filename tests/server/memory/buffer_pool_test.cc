// SPDX-License-Identifier: Apache-2.0
#include "server/memory/buffer_pool.h"

#include <gtest/gtest.h>

#include <limits>
#include <memory>

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

}  // namespace
}  // namespace headlight
