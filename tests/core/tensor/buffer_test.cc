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

// As batches do that are each a little longer than all before.
TEST(BufferTest, SlowlyGrowingSizesReplaceTheBlockAFewTimes) {
  Buffer buffer;
  int replaced = 0;
  const std::byte* block = nullptr;
  int64_t held_bytes = 0;
  for (int64_t size_bytes = int64_t{1} << 20; size_bytes <= int64_t{64} << 20; size_bytes += 300'000) {
    ASSERT_TRUE(buffer.Reserve(size_bytes));
    replaced += buffer.size_bytes() != held_bytes || buffer.bytes() != block;
    block = buffer.bytes();
    held_bytes = buffer.size_bytes();
  }
  EXPECT_LE(replaced, 4 * 6 + 1) << "four for each doubling";
}

TEST(BufferTest, ReserveTakesWhatTheLargestSizeTakesWhateverCameBefore) {
  for (const int64_t largest : {100'000, 3'000'000, 50'000'000}) {
    Buffer grown;
    for (const int64_t size_bytes : {largest / 2, largest * 3 / 4, largest, largest / 3}) {
      ASSERT_TRUE(grown.Reserve(size_bytes));
    }
    EXPECT_EQ(grown.size_bytes(), Buffer::ReservedBytes(largest));
  }
}

TEST(BufferTest, ReservedBytesAreAtMostAQuarterMoreAndNeverFewerForMore) {
  int64_t before = 0;
  for (int64_t size_bytes = 1; size_bytes < int64_t{1} << 34; size_bytes += size_bytes / 50 + 1) {
    const int64_t reserved = Buffer::ReservedBytes(size_bytes);
    EXPECT_GE(reserved, size_bytes);
    EXPECT_LE(reserved, Buffer::RoundedBytes(size_bytes + size_bytes / 4)) << size_bytes;
    EXPECT_GE(reserved, before);
    EXPECT_EQ(Buffer::ReservedBytes(reserved), reserved);
    before = reserved;
  }
  EXPECT_EQ(Buffer::ReservedBytes(1000), Buffer::RoundedBytes(1000)) << "small ones as they are";
}

TEST(BufferTest, GrowthIsWhatReserveTakesBesideWhatIsHeld) {
  Buffer buffer;
  EXPECT_EQ(buffer.GrowthFor(100'000), Buffer::ReservedBytes(100'000));
  for (const int64_t size_bytes : {1000, 100'000, 500, 3'000'000, 2'000'000}) {
    const int64_t before = buffer.size_bytes();
    const int64_t growth = buffer.GrowthFor(size_bytes);
    ASSERT_TRUE(buffer.Reserve(size_bytes));
    EXPECT_EQ(buffer.size_bytes(), before + growth);
  }
}

TEST(BufferTest, GivesBackABlockOfWhichLessThanHalfWasUsedSinceTheLastTime) {
  Buffer buffer;
  ASSERT_TRUE(buffer.Reserve(1'000'000));
  buffer.GiveBackUnused();
  EXPECT_TRUE(buffer.ok()) << "used since the beginning";
  ASSERT_TRUE(buffer.Reserve(700'000));
  ASSERT_TRUE(buffer.Reserve(1));
  buffer.GiveBackUnused();
  EXPECT_TRUE(buffer.ok()) << "used for the most part";
  ASSERT_TRUE(buffer.Reserve(100'000));
  buffer.GiveBackUnused();
  EXPECT_FALSE(buffer.ok());
  ASSERT_TRUE(buffer.Reserve(100'000));
  buffer.GiveBackUnused();
  buffer.GiveBackUnused();
  EXPECT_FALSE(buffer.ok()) << "not used at all";
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
