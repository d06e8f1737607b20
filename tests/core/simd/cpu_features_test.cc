// SPDX-License-Identifier: Apache-2.0
//
// Against what Linux says of the CPU.
#include "core/simd/cpu_features.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/match.h"

namespace headlight {
namespace {

bool CpuInfoHas(const std::string& word) {
  std::ifstream file("/proc/cpuinfo");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  return absl::StrContains(text, word);
}

TEST(CpuFeaturesTest, AreNoneThatTheCpuLacks) {
  if (HasTiles()) {
    EXPECT_TRUE(CpuInfoHas("amx_tile"));
    EXPECT_TRUE(CpuInfoHas("amx_bf16"));
    EXPECT_TRUE(CpuInfoHas("amx_int8"));
  }
  if (HasVnni()) {
    EXPECT_TRUE(CpuInfoHas("avx512_vnni") || CpuInfoHas("avx_vnni"));
  }
}

TEST(CpuFeaturesTest, WhoeverHasTilesHasVnni) { EXPECT_LE(HasTiles(), HasVnni()); }

TEST(CpuFeaturesTest, EndWhereOneDnnsLimitDoes) {
  const char* const limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string name = limit == nullptr ? "" : limit;
  if (name != "SSE41" && name != "AVX2" && name != "AVX512_CORE") GTEST_SKIP() << "no such limit is set";
  EXPECT_FALSE(HasTiles()) << limit;
  EXPECT_FALSE(HasVnni()) << limit;
}

TEST(CpuFeaturesTest, VectorsOfBf16AreFastOnAmd) {
  EXPECT_EQ(HasFastBf16Vectors(), CpuInfoHas("AuthenticAMD"));
}

}  // namespace
}  // namespace headlight
