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
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

TEST(ConfigFieldsTest, WhatNobodyAskedForIsUnknownInEveryObject) {
  auto fields = Fields(R"({"a": 1, "b": null, "c": 2, "inner": {"x": 1, "y": 2}, "closed": {"z": 1}})");
  ASSERT_THAT(fields, IsOk());
  fields->Int("a", 1, 9);
  fields->WithoutEffect({"c", "closed", "absent"});
  fields->Object("inner").Int("x", 1, 9);
  fields->Object("inner").Has("w");
  EXPECT_THAT(fields->UnknownKeys(), ElementsAre("b", "inner.y"));
}

TEST(ConfigFieldsTest, WhatStandsForAbsentKeysIsAssumed) {
  auto fields = Fields(R"({"a": 1, "inner": {}})");
  ASSERT_THAT(fields, IsOk());
  fields->Int("a", 1, 9, 3);
  fields->Int("b", 1, 9, 3);
  fields->Int("b", 1, 9, 3);
  fields->String("act", "gelu");
  fields->Bool("flag", false);
  fields->OptionalInt("window", 0, 9);
  fields->Object("inner").Number("eps", 1e-12);
  EXPECT_THAT(fields->Assumed(), ElementsAre("b 3", "act \"gelu\"", "flag false", "inner.eps 1e-12"));
}

TEST(ConfigFieldsTest, ANullIsToldFromAbsence) {
  auto fields = Fields(R"({"null": null, "zero": 0})");
  ASSERT_THAT(fields, IsOk());
  EXPECT_TRUE(fields->IsNull("null"));
  EXPECT_FALSE(fields->IsNull("zero"));
  EXPECT_FALSE(fields->IsNull("absent"));
}

TEST(ConfigFieldsTest, TwoNamesOfOneThingAgree) {
  auto fields = Fields(R"({"dim": 4, "hidden_size": 4, "n_heads": 2, "num_heads": 3, "num_layers": 1})");
  ASSERT_THAT(fields, IsOk());
  EXPECT_EQ(fields->EitherOf("dim", "hidden_size"), "dim");
  EXPECT_EQ(fields->EitherOf("n_layers", "num_layers"), "num_layers");
  EXPECT_EQ(fields->EitherOf("none", "neither"), "none");
  EXPECT_THAT(fields->status(), IsOk());
  fields->EitherOf("n_heads", "num_heads");
  EXPECT_THAT(fields->status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("n_heads: got 2, and num_heads 3, which is another name")));
}

TEST(ConfigFieldsTest, SomeKeysHaveOneValueThatIsServed) {
  auto fields = Fields(R"({"a": false, "b": 1.0, "c": {}, "d": null, "e": "x"})");
  ASSERT_THAT(fields, IsOk());
  fields->Only("a", {"false"});
  fields->Only("b", {"1"});
  fields->Only("c", {"{}"});
  fields->Only("d", {"true"});
  fields->Only("absent", {"true"});
  EXPECT_THAT(fields->status(), IsOk());
  fields->Only("e", {"\"y\"", "\"z\""});
  EXPECT_THAT(fields->status(), StatusIs(absl::StatusCode::kUnimplemented,
                                         HasSubstr("e: got \"x\", served is \"y\" or \"z\"")));
}

TEST(ConfigFieldsTest, ArraysOfStringsAreThatAlone) {
  auto fields = Fields(R"({"modes": ["mean", "cls"], "mixed": ["a", 1], "one": "a"})");
  ASSERT_THAT(fields, IsOk());
  EXPECT_THAT(fields->Strings("modes"), ElementsAre("mean", "cls"));
  EXPECT_THAT(fields->Strings("absent"), IsEmpty());
  EXPECT_THAT(fields->status(), IsOk());
  fields->Strings("mixed");
  fields->Strings("one");
  EXPECT_THAT(fields->status(), StatusIs(absl::StatusCode::kInvalidArgument,
                                         AllOf(HasSubstr("mixed: got an array, wanted an array of strings"),
                                               HasSubstr("one: got \"a\""))));
}

TEST(ConfigFieldsTest, ArraysOfNumbersAreThatAlone) {
  auto fields = Fields(R"({"factors": [1, 2.5], "mixed": [1, "a"], "one": 1, "null": [null]})");
  ASSERT_THAT(fields, IsOk());
  EXPECT_THAT(fields->Numbers("factors"), ElementsAre(1.0, 2.5));
  EXPECT_THAT(fields->Numbers("absent"), IsEmpty());
  EXPECT_THAT(fields->status(), IsOk());
  for (const char* key : {"mixed", "one", "null"}) EXPECT_THAT(fields->Numbers(key), IsEmpty());
  EXPECT_THAT(fields->status(), StatusIs(absl::StatusCode::kInvalidArgument,
                                         AllOf(HasSubstr("mixed: got an array, wanted an array of numbers"),
                                               HasSubstr("one: got 1"), HasSubstr("null: got an array"))));
}

TEST(ConfigFieldsTest, AHundredThousandClassesMayHaveNames) {
  std::string labels, ids;
  for (int i = 0; i < 100000; ++i) {
    const std::string name = "label_" + std::to_string(i);
    labels += (i > 0 ? ", \"" : "\"") + std::to_string(i) + "\": \"" + name + "\"";
    ids += (i > 0 ? ", \"" : "\"") + name + "\": " + std::to_string(i);
  }
  EXPECT_THAT(Fields("{\"id2label\": {" + labels + "}, \"label2id\": {" + ids + "}}"), IsOk());
}

}  // namespace
}  // namespace headlight
