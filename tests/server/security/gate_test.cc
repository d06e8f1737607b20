// SPDX-License-Identifier: Apache-2.0
#include "server/security/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::StatusIs;

constexpr char kToken[] = "a token of more than 16 bytes";

std::shared_ptr<const TokenTable> TableWith(const std::string& name, const std::string& token) {
  TokenTerms terms;
  terms.name = terms.tenant = name;
  terms.sha256 = HashToken(token);
  return std::make_shared<const TokenTable>(std::vector<TokenTerms>{terms});
}

class GateTest : public ::testing::Test {
 protected:
  void ExpectRefused(const CallHeaders& headers) {
    EXPECT_THAT(gate_.Admit(headers),
                StatusIs(absl::StatusCode::kUnauthenticated, "the call needs a valid bearer token"));
  }

  Gate gate_;
};

TEST_F(GateTest, WithoutTokensEverybodyMaySeeEverything) {
  const auto who = gate_.Admit({{"authorization", "whatever"}});
  ASSERT_THAT(who, IsOk());
  EXPECT_EQ((*who)->tenant, "");
  EXPECT_TRUE((*who)->models.MaySeeAll());
  EXPECT_FALSE((*who)->may_control_models);
  EXPECT_EQ((*who)->caller.id, Caller{}.id);
  EXPECT_TRUE((*Gate(/*anybody_may_control_models=*/true).Admit({}))->may_control_models);
}

TEST_F(GateTest, ATokenOpensAndNothingElseDoes) {
  gate_.SetTokens(TableWith("search", kToken));
  const std::string right = std::string("Bearer ") + kToken;
  const std::string lower = std::string("bearer ") + kToken;
  const std::string basic = std::string("Basic ") + kToken;
  const std::string longer = right + "x";
  const std::string huge = "Bearer " + std::string(100'000, 'x');
  const auto who = gate_.Admit({{"authorization", right}});
  ASSERT_THAT(who, IsOk());
  EXPECT_EQ((*who)->name, "search");
  EXPECT_THAT(gate_.Admit({{"authorization", lower}}), IsOk());
  ExpectRefused({});
  ExpectRefused({{"authorization", ""}});
  ExpectRefused({{"authorization", "Bearer "}});
  ExpectRefused({{"authorization", kToken}});
  ExpectRefused({{"authorization", basic}});
  ExpectRefused({{"authorization", longer}});
  ExpectRefused({{"authorization", huge}});
  ExpectRefused({{"authorization", right}, {"authorization", right}});
  ExpectRefused({{"x-authorization", right}});
  EXPECT_EQ(gate_.num_refused(), 9);
}

TEST_F(GateTest, CallsKeepWhoTheyAreWhenTokensChange) {
  gate_.SetTokens(TableWith("old", kToken));
  const std::string header = std::string("Bearer ") + kToken;
  const auto who = gate_.Admit({{"authorization", header}});
  gate_.SetTokens(TableWith("new", "another token of 16 bytes"));
  ExpectRefused({{"authorization", header}});
  EXPECT_EQ((*who)->name, "old");
}

}  // namespace
}  // namespace headlight
