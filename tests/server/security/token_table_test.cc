// SPDX-License-Identifier: Apache-2.0
#include "server/security/token_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/crypto.h>

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

constexpr int kNumTokens = 20;

std::string TokenOf(int n) { return absl::StrCat("a token of some length ", n); }

TokenTerms TermsOf(int n) {
  TokenTerms terms;
  terms.name = absl::StrCat("t", n);
  terms.tenant = absl::StrCat("tenant", n / 2);
  terms.sha256 = HashToken(TokenOf(n));
  return terms;
}

std::vector<TokenTerms> ManyTerms() {
  std::vector<TokenTerms> terms;
  for (int n = 0; n < kNumTokens; ++n) terms.push_back(TermsOf(n));
  return terms;
}

TEST(TokenTableTest, EachTokenStandsForItsOwn) {
  const TokenTable table(ManyTerms());
  for (int n = 0; n < kNumTokens; ++n) {
    const auto who = table.Find(TokenOf(n));
    ASSERT_NE(who, nullptr);
    EXPECT_EQ(who->name, absl::StrCat("t", n));
    EXPECT_EQ(who->tenant, absl::StrCat("tenant", n / 2));
  }
  EXPECT_EQ(table.Find(TokenOf(kNumTokens)), nullptr);
  EXPECT_EQ(table.Find(""), nullptr);
}

TEST(TokenTableTest, TokensOfATenantAreOneCaller) {
  const TokenTable table(ManyTerms());
  EXPECT_EQ(table.Find(TokenOf(0))->caller.id, table.Find(TokenOf(1))->caller.id);
  EXPECT_NE(table.Find(TokenOf(1))->caller.id, table.Find(TokenOf(2))->caller.id);
  EXPECT_NE(table.Find(TokenOf(0))->caller.id, Caller{}.id);
  EXPECT_EQ(table.Find(TokenOf(0))->caller.id, TokenTable(ManyTerms()).Find(TokenOf(0))->caller.id);
}

size_t compared_bytes = 0;
int CountingCompare(const void* a, const void* b, size_t num_bytes) {
  compared_bytes += num_bytes;
  return CRYPTO_memcmp(a, b, num_bytes);
}

TEST(TokenTableTest, AsMuchIsComparedWhateverTheTokenIs) {
  const TokenTable table(ManyTerms());
  const auto compared = [&](const std::string& token, bool is_right) {
    compared_bytes = 0;
    EXPECT_EQ(table.Find(token, CountingCompare) != nullptr, is_right);
    return compared_bytes;
  };
  const size_t all = kNumTokens * sizeof(TokenHash);
  std::string first_wrong = TokenOf(0);
  first_wrong.front() ^= 1;
  std::string last_wrong = TokenOf(0);
  last_wrong.back() ^= 0x40;
  EXPECT_EQ(compared(TokenOf(0), true), all);
  EXPECT_EQ(compared(TokenOf(kNumTokens - 1), true), all);
  EXPECT_EQ(compared(first_wrong, false), all);
  EXPECT_EQ(compared(last_wrong, false), all);
  EXPECT_EQ(compared("nothing like it", false), all);
}

TEST(TokenTableTest, ARateGoesOnInTheNextTable) {
  std::vector<TokenTerms> terms = {TermsOf(0), TermsOf(1)};
  for (TokenTerms& granted : terms) granted.compute_seconds_per_second = 1;
  const TokenTable before(terms);
  terms[1].compute_seconds_per_second = 2;
  const TokenTable after(terms, &before);
  EXPECT_EQ(after.Find(TokenOf(0))->rate, before.Find(TokenOf(0))->rate);
  EXPECT_NE(after.Find(TokenOf(1))->rate, before.Find(TokenOf(1))->rate);
}

TEST(TokenTableTest, ChangesAreToldByName) {
  std::vector<TokenTerms> terms = {TermsOf(0), TermsOf(1)};
  const TokenTable before(terms);
  EXPECT_EQ(DescribeChanges(before, TokenTable(terms)), "nothing has changed");
  terms[0].weight = 2;
  terms[1] = TermsOf(2);
  EXPECT_EQ(DescribeChanges(before, TokenTable(terms)),
            "1 added (\"t2\"), 1 changed (\"t0\"), 1 removed (\"t1\")");
}

}  // namespace
}  // namespace headlight
