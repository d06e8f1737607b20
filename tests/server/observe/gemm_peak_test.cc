// SPDX-License-Identifier: Apache-2.0
#include "server/observe/gemm_peak.h"

#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;

TEST(GemmPeakTest, IsWhatAMachineOfOurTimeCanReach) {
  for (const int threads : {1, 2}) {
    ComputeArena arena(threads);
    const auto peak = MeasureGemmPeak(arena);
    ASSERT_THAT(peak, IsOk());
    EXPECT_GT(*peak, 1e8) << "even where a sanitizer slows it down";
    EXPECT_LT(*peak, threads * 2e12);
  }
}

}  // namespace
}  // namespace headlight
