// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/bounded_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::StartsWith;
using testing::StatusIs;
using testing::TempFolder;

TEST(BoundedJson, ReadsWhatTheLibraryReads) {
  const std::string text =
      R"({"a": [1, -2, 2.5, true, null, {"b": "\u00e9"}, []], "c": {}, "d": 18446744073709551615})";
  const auto parsed = ParseJson(text, {}, "config.json");
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(*parsed, json::parse(text));
  const auto scalar = ParseJson(" 7 ", {}, "config.json");
  ASSERT_THAT(scalar, IsOk());
  EXPECT_EQ(*scalar, json(7));
}

struct Refusal {
  std::string text;
  std::string message;
};

TEST(BoundedJson, RefusesWithTheNameTheKeyAndTheReason) {
  const Refusal refusals[] = {
      {"", "not JSON: got nothing"},
      {"{", "not JSON at byte"},
      {R"({"a": 1} x)", "not JSON at byte"},
      {R"({"a": NaN})", R"("a": not JSON at byte)"},
      {R"({"a": 1e999})", R"("a": not JSON at byte)"},
      {R"({"a": 1, "b": 2, "a": 3})", R"(key "a" occurs twice)"},
      {R"({"outer": {"in": 1, "in": 1}})", R"("outer": key "in" occurs twice)"},
      {R"([{"x": 1, "x": 1}])", R"(key "x" occurs twice)"},
      {"{\"a\": \"\xff\"}", "UTF-8"},
      {"{\"a\": \"\xed\xa0\x80\"}", "UTF-8"},  // half of a surrogate pair
      {R"({"a": "\ud800"})", "surrogate"},
      {std::string("{}\0{}", 5), "a NUL at byte 2"},
      {"// comment\n{}", "not JSON at byte"},
  };
  for (const Refusal& refusal : refusals) {
    EXPECT_THAT(ParseJson(refusal.text, {}, "dir/config.json"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(StartsWith("dir/config.json: "), HasSubstr(refusal.message))))
        << refusal.text;
  }
}

TEST(BoundedJson, MessagesAreShortAndPrintableWhateverTheText) {
  const auto parsed = ParseJson("[\"" + std::string(500000, 'x') + "\x01", {}, "config.json");
  EXPECT_FALSE(parsed.ok());
  EXPECT_LT(parsed.status().message().size(), 1000u);
  for (const char c : parsed.status().message()) EXPECT_TRUE(c >= ' ' && c <= '~');
}

TEST(BoundedJson, KeepsItsLimits) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_THAT(ParseJson(nested(3), {.max_depth = 3}, "f"), IsOk());
  EXPECT_THAT(ParseJson(nested(4), {.max_depth = 3}, "f"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nested deeper than 3 levels")));
  EXPECT_THAT(ParseJson(std::string(1 << 20, '['), {}, "f"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nested deeper than")));
  EXPECT_THAT(ParseJson("[1, 2]", {.max_values = 3}, "f"), IsOk());
  EXPECT_THAT(ParseJson("[1, 2, 3]", {.max_values = 3}, "f"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 3 values")));
  EXPECT_THAT(ParseJson("[12]", {.max_bytes = 4}, "f"), IsOk());
  EXPECT_THAT(
      ParseJson("[123]", {.max_bytes = 4}, "f"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got 5 bytes of JSON, wanted at most 4")));
}

TEST(BoundedJson, ReadsFiles) {
  TempFolder folder;
  const std::string path = folder.Write("config.json", R"({"a": 1})");
  const auto parsed = ReadJsonFile(path, {});
  ASSERT_THAT(parsed, IsOk());
  EXPECT_EQ(*parsed, json({{"a", 1}}));

  EXPECT_THAT(ReadJsonFile(path, {.max_bytes = 7}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(StartsWith(path), HasSubstr("got 8 bytes, wanted at most 7"))));
  EXPECT_THAT(ReadJsonFile(folder.File("none.json"), {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.json")));
  EXPECT_THAT(ReadJsonFile(folder.path(), {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wanted a regular file")));
  ASSERT_EQ(mkfifo(folder.File("fifo.json").c_str(), 0600), 0);
  EXPECT_THAT(ReadJsonFile(folder.File("fifo.json"), {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wanted a regular file")));
}

}  // namespace
}  // namespace headlight
