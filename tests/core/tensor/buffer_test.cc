// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

namespace headlight {
namespace {

uintptr_t AddressOf(const Buffer& buffer) { return reinterpret_cast<uintptr_t>(buffer.bytes()); }

TEST(BufferTest, IsEmptyByDefault) {
  const Buffer buffer;
  EXPECT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.bytes(), nullptr);
  EXPECT_EQ(buffer.size_bytes(), 0);
}

TEST(BufferTest, AlignsToCacheLines) {
  for (int64_t size_bytes : {0, 1, 63, 64, 65, 4096, 100000}) {
    const Buffer buffer = Buffer::Allocate(size_bytes);
    ASSERT_TRUE(buffer.ok()) << size_bytes;
    EXPECT_GE(buffer.size_bytes(), size_bytes);
    EXPECT_EQ(AddressOf(buffer) % 64, 0u) << size_bytes;
    std::memset(buffer.bytes(), 0xAB, buffer.size_bytes());  // under ASan: all of it is ours
  }
}

TEST(BufferTest, AlignsLargeBlocksToHugePages) {
  const Buffer buffer = Buffer::Allocate((int64_t{2} << 20) + 1);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(AddressOf(buffer) % (2 << 20), 0u);
}

TEST(BufferTest, AnswersImpossibleSizesWithANullBuffer) {
  EXPECT_FALSE(Buffer::Allocate(-1).ok());
  EXPECT_FALSE(Buffer::Allocate(std::numeric_limits<int64_t>::max()).ok());
}

TEST(BufferTest, ReserveKeepsABlockThatIsLargeEnough) {
  Buffer buffer = Buffer::Allocate(1000);
  const std::byte* const bytes = buffer.bytes();
  EXPECT_TRUE(buffer.Reserve(10));
  EXPECT_TRUE(buffer.Reserve(1000));
  EXPECT_EQ(buffer.bytes(), bytes);
}

TEST(BufferTest, ReserveReplacesABlockThatIsTooSmall) {
  Buffer buffer;
  ASSERT_TRUE(buffer.Reserve(10));
  ASSERT_TRUE(buffer.Reserve(100000));
  EXPECT_GE(buffer.size_bytes(), 100000);
}

TEST(BufferTest, ReserveWithoutMemoryLeavesItEmpty) {
  Buffer buffer = Buffer::Allocate(10);
  EXPECT_FALSE(buffer.Reserve(std::numeric_limits<int64_t>::max()));
  EXPECT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.size_bytes(), 0);
}

TEST(BufferTest, MovesItsBlock) {
  Buffer from = Buffer::Allocate(64);
  const std::byte* const bytes = from.bytes();
  const Buffer to = std::move(from);
  EXPECT_EQ(to.bytes(), bytes);
  EXPECT_EQ(static_cast<const void*>(to.floats()), static_cast<const void*>(bytes));
}

}  // namespace
}  // namespace headlight
