// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "server/program/program_commands.h"
#include "server/security/token_file.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;

constexpr char kSomeToken[] = "correct-horse-battery-staple";

struct Printed {
  int exit_code;
  std::string out;
  std::string err;
};

Printed HashTokenOf(const std::string& input, std::vector<const char*> flags = {}) {
  flags.insert(flags.begin(), "hash-token");
  std::istringstream in(input);
  std::ostringstream out, err;
  const int exit_code = RunHashToken(static_cast<int>(flags.size()), flags.data(), in, out, err);
  return {exit_code, out.str(), err.str()};
}

TEST(HashTokenTest, PrintsAnEntryThatTheTokenOpens) {
  const Printed printed = HashTokenOf(std::string(kSomeToken) + "\n");
  EXPECT_EQ(printed.exit_code, 0) << printed.err;
  EXPECT_THAT(printed.out, Not(HasSubstr(kSomeToken)));
  const auto tokens = ParseTokens(printed.out, "printed");
  ASSERT_THAT(tokens, IsOk());
  EXPECT_EQ(tokens->front().sha256, HashToken(kSomeToken));
  EXPECT_EQ(tokens->front().name, "token-" + ToHex(HashToken(kSomeToken)).substr(0, 8));
}

TEST(HashTokenTest, ALineEndIsNoPartOfAToken) {
  EXPECT_EQ(HashTokenOf(kSomeToken).out, HashTokenOf(std::string(kSomeToken) + "\n").out);
  EXPECT_EQ(HashTokenOf(kSomeToken).out, HashTokenOf(std::string(kSomeToken) + "\r\n").out);
}

TEST(HashTokenTest, FlagsAreInTheEntry) {
  const Printed printed =
      HashTokenOf(kSomeToken, {"--name", "a", "--tenant", "x", "--weight", "3", "--models", "m,n*",
                               "--compute-seconds-per-second", "2", "--model-control"});
  EXPECT_EQ(printed.exit_code, 0) << printed.err;
  const auto tokens = ParseTokens(printed.out, "printed");
  ASSERT_THAT(tokens, IsOk());
  const TokenTerms& terms = tokens->front();
  EXPECT_EQ(terms.name, "a");
  EXPECT_EQ(terms.tenant, "x");
  EXPECT_EQ(terms.weight, 3);
  EXPECT_EQ(terms.models, ModelRights({"m", "n*"}));
  EXPECT_EQ(terms.compute_seconds_per_second, 2);
  EXPECT_TRUE(terms.model_control);
}

TEST(HashTokenTest, PrintedEntriesMayBeAppended) {
  EXPECT_THAT(ParseTokens(HashTokenOf(kSomeToken).out + HashTokenOf("another-token-of-a-test").out, "both"),
              IsOk());
}

TEST(HashTokenTest, WhatIsNoTokenIsRefusedWithTheReasonAndNotShown) {
  const Printed too_short = HashTokenOf("123456789012345\n");
  EXPECT_EQ(too_short.exit_code, 2);
  EXPECT_THAT(too_short.err, HasSubstr("got 15 bytes, wanted 16 to 1024"));
  EXPECT_THAT(too_short.err, Not(HasSubstr("123456")));
  EXPECT_EQ(too_short.out, "");
  EXPECT_THAT(HashTokenOf(std::string(2000, 'x')).err, HasSubstr("wanted 16 to 1024"));
  EXPECT_THAT(HashTokenOf("two words that are long").err, HasSubstr("printable ASCII without spaces"));
  EXPECT_THAT(HashTokenOf("two-lines-that-\nare-long").err, HasSubstr("printable ASCII without spaces"));
}

TEST(HashTokenTest, FlagsThatTheFileWouldNotTakeAreRefused) {
  EXPECT_EQ(HashTokenOf(kSomeToken, {"--weight", "0"}).exit_code, 2);
  EXPECT_THAT(HashTokenOf(kSomeToken, {"--name", "a b"}).err, HasSubstr("name: got \"a b\""));
  EXPECT_EQ(HashTokenOf(kSomeToken, {"--colour", "red"}).exit_code, 2);
}

}  // namespace
}  // namespace headlight
