// SPDX-License-Identifier: Apache-2.0
#include "server/observe/recent_errors.h"

#include <gtest/gtest.h>

#include <string>

namespace headlight {
namespace {

RequestRecord Ended(absl::StatusCode code, const std::string& message) {
  RequestRecord record;
  record.code = code;
  record.message = message;
  return record;
}

TEST(RecentErrorsTest, KeepsTheLastOnesAndAFloodOfRefusalsHidesNoError) {
  RecentErrors errors;
  errors.RequestEnded(Ended(absl::StatusCode::kOk, ""));
  errors.RequestEnded(Ended(absl::StatusCode::kInternal, "broken"));
  for (int i = 0; i < 1000; ++i) {
    errors.RequestEnded(Ended(absl::StatusCode::kResourceExhausted, std::to_string(i)));
  }
  ASSERT_EQ(errors.OurFaults().size(), 1u);
  EXPECT_EQ(errors.OurFaults()[0].message, "broken");
  ASSERT_EQ(errors.Refusals().size(), RecentErrors::kKept);
  EXPECT_EQ(errors.Refusals().front().message, "999");
  EXPECT_EQ(errors.Refusals().back().message, "980");
}

TEST(RecentErrorsTest, KeepsNoLongTexts) {
  RecentErrors errors;
  RequestRecord record = Ended(absl::StatusCode::kNotFound, std::string(1'000'000, 'm'));
  record.model = record.message;
  errors.RequestEnded(record);
  EXPECT_LT(errors.Refusals()[0].message.size() + errors.Refusals()[0].model.size(), 1000u);
}

}  // namespace
}  // namespace headlight
