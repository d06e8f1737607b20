// SPDX-License-Identifier: Apache-2.0
#include "server/memory/memory_plan.h"

#include <gtest/gtest.h>

namespace headlight {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

TEST(MemoryPlanTest, TheProcessItselfIsInsideTheLimit) {
  for (const int64_t limit : {kMiB, 600 * kMiB, 1024 * kMiB, 1024 * 1024 * kMiB}) {
    const MemoryShares shares = PlanMemory(limit, 0);
    EXPECT_EQ(shares.limit + ProcessReserveBytes(limit), limit);
    EXPECT_GE(shares.limit, limit / 2);
    EXPECT_LE(shares.models_reserved + shares.requests_reserved, shares.limit);
    EXPECT_GT(shares.models_reserved, 0);
    EXPECT_GT(shares.requests_reserved, 0);
  }
  EXPECT_GE(ProcessReserveBytes(600 * kMiB), 64 * kMiB);
}

TEST(MemoryPlanTest, WhatIsAskedForModelsIsTheirs) {
  const MemoryShares shares = PlanMemory(1024 * kMiB, 800 * kMiB);
  EXPECT_EQ(shares.models_reserved, 800 * kMiB);
  EXPECT_EQ(shares.requests_reserved, shares.limit - 800 * kMiB);
  const MemoryShares all = PlanMemory(1024 * kMiB, 1024 * kMiB);
  EXPECT_EQ(all.models_reserved, all.limit);
  EXPECT_EQ(all.requests_reserved, 0);
}

TEST(MemoryPlanTest, NoLimitIsTooSmallToDivide) {
  const MemoryShares shares = PlanMemory(1, 0);
  EXPECT_GE(shares.limit, 0);
  EXPECT_GE(shares.limit, shares.models_reserved + shares.requests_reserved);
}

}  // namespace
}  // namespace headlight
