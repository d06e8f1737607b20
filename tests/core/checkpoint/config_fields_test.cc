// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/config_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<ConfigFields> Fields(const std::string& text) {
  const std::string path = ::testing::TempDir() + "/config_fields_test.json";
  std::ofstream(path) << text;
  return ConfigFields::Read(path);
}

TEST(ConfigFieldsTest, ReadsEveryKindOfValue) {
  auto fields = Fields(R"({"int": 3, "number": 0.5, "bool": true, "string": "x", "object": {"inner": 4}})");
  ASSERT_THAT(fields, IsOk());
  EXPECT_EQ(fields->Int("int", 1, 5), 3);
  EXPECT_EQ(fields->Number("number"), 0.5);
  EXPECT_EQ(fields->Number("int"), 3.0);
  EXPECT_TRUE(fields->Bool("bool", false));
  EXPECT_EQ(fields->String("string"), "x");
  EXPECT_EQ(fields->Object("object").Int("inner", 1, 5), 4);
  EXPECT_THAT(fields->status(), IsOk());
}

TEST(ConfigFieldsTest, NullIsAbsence) {
  auto fields = Fields(R"({"int": null, "string": null, "object": null})");
  ASSERT_THAT(fields, IsOk());
  EXPECT_EQ(fields->Int("int", 1, 5, 2), 2);
  EXPECT_EQ(fields->String("string", "y"), "y");
  EXPECT_TRUE(fields->Object("object").empty());
  EXPECT_THAT(fields->status(), IsOk());
}

TEST(ConfigFieldsTest, AllProblemsStandInOneError) {
  auto fields = Fields(R"({"heads": "four", "width": -3, "share": 1.5, "flag": 1, "rope": {"theta": []}})");
  ASSERT_THAT(fields, IsOk());
  fields->Int("heads", 1, 9);
  fields->Int("width", 1, 9);
  fields->Int("share", 1, 9);
  fields->Int("missing", 1, 9);
  fields->Bool("flag", false);
  fields->Object("rope").Number("theta");
  EXPECT_THAT(fields->status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("heads: got \"four\", wanted an integer in 1..9"),
                             HasSubstr("width: got -3"), HasSubstr("share: got 1.5"),
                             HasSubstr("missing: missing"), HasSubstr("flag: got 1, wanted true or false"),
                             HasSubstr("rope.theta: got an array, wanted a number"))));
}

TEST(ConfigFieldsTest, IntegersBeyondInt64AreOutOfRange) {
  auto fields = Fields(R"({"int": 18446744073709551615})");
  ASSERT_THAT(fields, IsOk());
  fields->Int("int", 1, INT64_MAX);
  EXPECT_THAT(fields->status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("18446744073709551615")));
}

TEST(ConfigFieldsTest, UnknownKeysAreListedWithTheKnownOnes) {
  auto fields = Fields(R"({"num_heads": 2, "num_head": 2})");
  ASSERT_THAT(fields, IsOk());
  fields->Int("num_heads", 1, 9);
  fields->Bool("causal", false);
  fields->FailUnknownKeys();
  EXPECT_THAT(fields->status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("\"num_head\": unknown key, wanted one of num_heads, causal")));
}

TEST(ConfigFieldsTest, WhatIsNoObjectIsRefused) {
  EXPECT_THAT(Fields("[1]"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wanted a JSON object")));
  EXPECT_THAT(Fields("{"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("config_fields_test.json")));
  EXPECT_THAT(ConfigFields::Read("/nowhere/config.json"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere")));
}

}  // namespace
}  // namespace headlight
