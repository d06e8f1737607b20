// SPDX-License-Identifier: Apache-2.0
#include "server/models/load_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::StatusIs;

std::string Told(const std::string& message, const std::string& folder) {
  return std::string(ForCallers(absl::InvalidArgumentError(message), folder).message());
}

TEST(LoadErrorTest, TheFoldersPathStaysHere) {
  EXPECT_EQ(Told("/srv/m/bert/3/config.json: got 7", "/srv/m/bert/3"), "config.json: got 7");
  EXPECT_EQ(Told("/srv/m/bert/3: got no file", "/srv/m/bert/3"), "got no file");
  EXPECT_EQ(Told("/srv/m/bert/3: got no file", "/srv/m/bert/3/"), "got no file");
  EXPECT_EQ(Told("cannot read \"/srv/m\": gone", "/srv/m"), "cannot read the folder: gone");
  EXPECT_EQ(Told("cannot list /srv/m", "/srv/m"), "cannot list the folder");
}

TEST(LoadErrorTest, TheCodeStaysAndSuccessHasNoMessage) {
  EXPECT_THAT(ForCallers(absl::ResourceExhaustedError("/m/a: full"), "/m/a"),
              StatusIs(absl::StatusCode::kResourceExhausted, "full"));
  EXPECT_THAT(ForCallers(absl::OkStatus(), "/m/a"), IsOk());
}

TEST(LoadErrorTest, WhatIsNoUtf8IsReplacedAndTheRestKept) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(ToValidUtf8("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(ToValidUtf8("a\xFFz"), "a" + bad + "z");
  EXPECT_EQ(ToValidUtf8("cut \xE2\x82"), "cut " + bad + bad);
  EXPECT_EQ(ToValidUtf8("\xC0\xAF"), bad + bad);                      // overlong
  EXPECT_EQ(ToValidUtf8("\xED\xA0\x80"), bad + bad + bad);            // a surrogate
  EXPECT_EQ(ToValidUtf8("\xF4\x90\x80\x80"), bad + bad + bad + bad);  // beyond U+10FFFF
}

}  // namespace
}  // namespace headlight
