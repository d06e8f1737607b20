// SPDX-License-Identifier: Apache-2.0
#include "core/base/check_range.h"

#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

TEST(CheckRangeTest, TakesBothEnds) {
  EXPECT_THAT(CheckRange("field", -2, -2, 5), testing::IsOk());
  EXPECT_THAT(CheckRange("field", 5, -2, 5), testing::IsOk());
}

TEST(CheckRangeTest, NamesTheFieldAndTheRange) {
  for (const int64_t got : {-3, 6}) {
    const absl::Status status = CheckRange("field", got, -2, 5);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), got < 0 ? "field: got -3, wanted -2..5" : "field: got 6, wanted -2..5");
  }
}

}  // namespace
}  // namespace headlight
