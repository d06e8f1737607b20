// SPDX-License-Identifier: Apache-2.0
#include "core/attention/mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::StartsWith;
using testing::StatusIs;

constexpr char kMaskBytes[64] = {};

TEST(CheckMaskTest, TakesBooleansAndNumbersAtAnyAddress) {
  EXPECT_THAT(CheckMask({kMaskBytes + 1, DType::kBool, 6, 3}), IsOk());
  EXPECT_THAT(CheckMask({kMaskBytes + 1, DType::kF32, 6, 3}), IsOk());
}

TEST(CheckMaskTest, TakesOneRowForAllHeadsAndQueries) {
  EXPECT_THAT(CheckMask({kMaskBytes, DType::kF32, 0, 0}), IsOk());
}

TEST(CheckMaskTest, OfNoMaskNothingMatters) {
  EXPECT_THAT(CheckMask({nullptr, DType::kI64, -6, -3}), IsOk());
}

TEST(CheckMaskTest, RefusesTypesThatAreNone) {
  for (const DType dtype : {DType::kF16, DType::kBf16, DType::kI32, DType::kI64}) {
    EXPECT_THAT(
        CheckMask({kMaskBytes, dtype, 6, 3}),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 StartsWith(absl::StrCat(".mask: got the type ", Name(dtype), ", wanted bool or f32"))));
  }
}

TEST(CheckMaskTest, RefusesStridesThatRunBackwards) {
  EXPECT_THAT(CheckMask({kMaskBytes, DType::kBool, -6, 3}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(".mask: got strides of -6 and 3")));
  EXPECT_THAT(CheckMask({kMaskBytes, DType::kF32, 6, -3}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(".mask: got strides of 6 and -3")));
}

}  // namespace
}  // namespace headlight
