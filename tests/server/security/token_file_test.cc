// SPDX-License-Identifier: Apache-2.0
#include "server/security/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;
using testing::StatusIs;

// Some hash, another for each `n`.
std::string Hash(int n) { return ToHex(HashToken(absl::StrCat("token number ", n))); }

std::string Token(const std::string& name, int n, const std::string& more = "") {
  return absl::StrCat("[[token]]\nname = \"", name, "\"\nsha256 = \"", Hash(n), "\"\n", more, "\n");
}

void ExpectWrong(const std::string& text, const std::string& message) {
  EXPECT_THAT(ParseTokens(text, "t.toml"),
              StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("t.toml"), HasSubstr(message))))
      << text;
}

TEST(TokenFileTest, WhatIsNotSaidIsByDefault) {
  const auto tokens = ParseTokens(Token("search", 1), "t.toml");
  ASSERT_THAT(tokens, IsOk());
  ASSERT_EQ(tokens->size(), 1u);
  const TokenTerms& terms = tokens->front();
  EXPECT_EQ(terms.name, "search");
  EXPECT_EQ(terms.tenant, "search");
  EXPECT_EQ(terms.weight, 1);
  EXPECT_TRUE(terms.models.MaySeeAll());
  EXPECT_FALSE(terms.compute_seconds_per_second.has_value());
  EXPECT_FALSE(terms.model_control);
  EXPECT_EQ(ToHex(terms.sha256), Hash(1));
}

TEST(TokenFileTest, ReadsAllThatCanBeSaid) {
  const auto tokens = ParseTokens(
      Token("a", 1,
            "tenant = \"x\"\nweight = 2.5\nmodels = [\"one\", \"two-*\"]\ncompute_seconds_per_second = 3\n"
            "model_control = true"),
      "t.toml");
  ASSERT_THAT(tokens, IsOk());
  const TokenTerms& terms = tokens->front();
  EXPECT_EQ(terms.tenant, "x");
  EXPECT_EQ(terms.weight, 2.5);
  EXPECT_TRUE(terms.models.MaySee("one") && terms.models.MaySee("two-b"));
  EXPECT_FALSE(terms.models.MaySee("one-b") || terms.models.MaySee("two"));
  EXPECT_EQ(terms.compute_seconds_per_second, 3);
  EXPECT_TRUE(terms.model_control);
}

TEST(TokenFileTest, WhatIsWrittenIsReadAgain) {
  TokenTerms terms;
  terms.name = "a";
  terms.tenant = "b";
  terms.sha256 = HashToken("the token of a test");
  terms.weight = 0.25;
  terms.models = ModelRights({"m", "n*"});
  terms.compute_seconds_per_second = 1.5;
  terms.model_control = true;
  const auto read = ParseTokens(WriteToken(terms) + Token("c", 1), "t.toml");
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->front(), terms);
  EXPECT_EQ(read->size(), 2u);
}

TEST(TokenFileTest, ErrorsNameLineAndKey) {
  ExpectWrong(Token("a", 1) + "[[token]]\nname = \"b\"\nsha256 = \"12\"\n", "t.toml:7: sha256: got 2 ");
  ExpectWrong(Token("a", 1, "weight = 0"), "t.toml:4: weight: got 0, wanted 0.001 to 1000");
  ExpectWrong(Token("a", 1, "weight = nan"), "weight: got nan");
  ExpectWrong(Token("a", 1, "weight = \"1\""), "weight: got no number");
  ExpectWrong(Token("a", 1, "weight = true"), "weight: got");
  ExpectWrong(Token("a", 1, "compute_seconds_per_second = -1"), "compute_seconds_per_second: got -1");
  ExpectWrong(Token("a", 1, "tenant = \"a b\""), "t.toml:4: tenant: got \"a b\"");
  ExpectWrong(Token("a", 1, "models = []"), "models: got no list of names");
  ExpectWrong(Token("a", 1, "models = \"a\""), "models: got no list of names");
  ExpectWrong(Token("a", 1, "models = [1]"), "models: got something else");
  ExpectWrong(Token("a", 1, "models = [\"a*b\"]"), "models: got \"a*b\"");
  ExpectWrong(Token("a", 1, "model_control = 1"), "model_control: got no boolean");
  ExpectWrong(Token("a", 1, "rights = 1"), "t.toml:4: got the key \"rights\", wanted compute");
  ExpectWrong("[[token]]\nsha256 = \"" + Hash(1) + "\"", "name: got none");
  ExpectWrong("[[token]]\nname = \"a\"", "sha256: got none");
  ExpectWrong("[token]\nname = \"a\"", "token: got something else, wanted [[token]]");
  ExpectWrong("tokens = 1", "got \"tokens\", wanted nothing but [[token]]");
  ExpectWrong("", "got no [[token]]");
  ExpectWrong("token = []", "");
  ExpectWrong(Token("a", 1) + "[[token", "t.toml:5: got no TOML");
}

TEST(TokenFileTest, NothingOfAHashOrATokenIsTold) {
  const auto tokens = ParseTokens("[[token]]\nname = \"a\"\nsha256 = \"the secret itself\"", "t.toml");
  EXPECT_THAT(std::string(tokens.status().message()), Not(HasSubstr("secret")));
}

TEST(TokenFileTest, NamesAndTokensAreThereOnce) {
  ExpectWrong(Token("a", 1) + Token("a", 2), "t.toml:5: name: got \"a\" twice");
  ExpectWrong(Token("a", 1) + Token("b", 1), "t.toml:5: sha256: got the token \"a\" again");
  ExpectWrong(Token("a", 1, "tenant = \"x\"") + Token("b", 2, "tenant = \"x\"\nweight = 2"),
              "weight: got 2, wanted 1 as in the other tokens of the tenant \"x\"");
}

TEST(TokenFileTest, ThereMayBeSoManyAndNoMore) {
  std::string text;
  for (size_t i = 0; i < kMaxTokens; ++i) text += Token(absl::StrCat("t", i), static_cast<int>(i));
  EXPECT_THAT(ParseTokens(text, "t.toml"), IsOk());
  ExpectWrong(text + Token("one more", 5000), "got 1025 tokens, wanted at most 1024");
}

TEST(TokenFileTest, FilesAreBoundedAndMustBeThere) {
  const testing::TempFolder folder;
  const std::string path = folder.File("tokens.toml");
  EXPECT_THAT(ReadTokenFile(path), StatusIs(absl::StatusCode::kNotFound, HasSubstr("tokens.toml")));
  folder.Write("tokens.toml", Token("a", 1));
  EXPECT_THAT(ReadTokenFile(path), IsOk());
  folder.Write("tokens.toml", std::string((1 << 20) + 1, '#'));
  EXPECT_THAT(ReadTokenFile(path), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1048576 bytes")));
}

}  // namespace
}  // namespace headlight
