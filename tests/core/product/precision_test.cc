// SPDX-License-Identifier: Apache-2.0
#include "core/product/precision.h"

#include <gtest/gtest.h>

namespace headlight {
namespace {

constexpr Precision kPrecisions[] = {Precision::kF32, Precision::kBf16, Precision::kInt8};

TEST(PrecisionTest, HasTheNameThatUsersWrite) {
  EXPECT_STREQ(Name(Precision::kF32), "f32");
  EXPECT_STREQ(Name(Precision::kBf16), "bf16");
  EXPECT_STREQ(Name(Precision::kInt8), "int8");
}

TEST(PrecisionTest, InterleavedRowsFillAWord) {
  for (const Precision precision : kPrecisions) {
    EXPECT_EQ(InterleavedRows(precision) * OperandBytes(precision), 4) << Name(precision);
  }
}

TEST(PrecisionTest, AParameterTakesWhatItsOperandTakes) {
  for (const Precision precision : kPrecisions) {
    EXPECT_EQ(BytesPerWeight(precision), OperandBytes(precision)) << Name(precision);
  }
}

}  // namespace
}  // namespace headlight
