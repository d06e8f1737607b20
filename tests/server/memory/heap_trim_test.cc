// SPDX-License-Identifier: Apache-2.0
#include "server/memory/heap_trim.h"

#include <gtest/gtest.h>

#include <chrono>

namespace headlight {
namespace {

using std::chrono::seconds;

constexpr int64_t kMegabyte = 1'000'000;
const HeapTrim::TimePoint kStart{std::chrono::hours(1)};

TEST(HeapTrimTest, IsDueWellAboveWhatTheLastOneLeft) {
  HeapTrim trim;
  EXPECT_TRUE(trim.IsDue(100 * kMegabyte, kStart));
  trim.Trimmed(100 * kMegabyte, 50 * kMegabyte, kStart);
  EXPECT_FALSE(trim.IsDue(60 * kMegabyte, kStart + seconds(1)));
  EXPECT_TRUE(trim.IsDue(400 * kMegabyte, kStart + seconds(1)));
}

TEST(HeapTrimTest, WaitsLongerWhereItIsOfNoUse) {
  HeapTrim trim;
  trim.Trimmed(100 * kMegabyte, 100 * kMegabyte, kStart);
  EXPECT_FALSE(trim.IsDue(200 * kMegabyte, kStart + seconds(1)));
  EXPECT_TRUE(trim.IsDue(200 * kMegabyte, kStart + seconds(2)));
  trim.Trimmed(200 * kMegabyte, 200 * kMegabyte, kStart + seconds(2));
  EXPECT_FALSE(trim.IsDue(300 * kMegabyte, kStart + seconds(5)));
  EXPECT_TRUE(trim.IsDue(300 * kMegabyte, kStart + seconds(6)));
  trim.Trimmed(300 * kMegabyte, 50 * kMegabyte, kStart + seconds(6));
  EXPECT_TRUE(trim.IsDue(300 * kMegabyte, kStart + seconds(6)));
}

TEST(HeapTrimTest, ThisProcessHasAResidentSet) { EXPECT_GT(ResidentBytes(), kMegabyte); }

}  // namespace
}  // namespace headlight
