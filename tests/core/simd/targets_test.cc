// SPDX-License-Identifier: Apache-2.0
#include "core/simd/targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "core/tensor/bf16.h"

namespace headlight {
namespace {

using ::testing::AnyOf;
using ::testing::Not;
using ::testing::StartsWith;

TEST(RoundUpTest, GoesToTheNextMultiple) {
  EXPECT_EQ(RoundUp(0, 16), 0);
  EXPECT_EQ(RoundUp(1, 16), 16);
  EXPECT_EQ(RoundUp(16, 16), 16);
  EXPECT_EQ(RoundUp(17, 16), 32);
  EXPECT_EQ(RoundUp(10, 3), 12);
}

TEST(GranuleTest, IsACacheLineOfAnyOperand) {
  EXPECT_EQ(kGranule<float>, kLanes);
  EXPECT_EQ(kGranule<Bf16>, 2 * kLanes);
  EXPECT_EQ(kGranule<int8_t>, 4 * kLanes);
}

// The tests of this program run once more for each of these.
TEST(MatchSimdToOneDnnTest, TakesNoWiderInstructionsThanOneDnnMay) {
  MatchSimdToOneDnn();
  const std::string name = SimdTargetName();
  const char* const limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (limit == nullptr) GTEST_SKIP() << "no limit is set; runs on " << name;
  if (std::string(limit) == "SSE41") {
    EXPECT_THAT(name, Not(StartsWith("AVX")));
  } else if (std::string(limit) == "AVX2") {
    EXPECT_THAT(name, Not(StartsWith("AVX3")));
  } else if (std::string(limit) == "AVX512_CORE") {
    EXPECT_THAT(name, Not(AnyOf(StartsWith("AVX3_ZEN4"), StartsWith("AVX3_SPR"))));
  }
}

TEST(MatchSimdToOneDnnTest, MayBeCalledAgain) {
  MatchSimdToOneDnn();
  const std::string name = SimdTargetName();
  MatchSimdToOneDnn();
  EXPECT_EQ(SimdTargetName(), name);
}

}  // namespace
}  // namespace headlight
