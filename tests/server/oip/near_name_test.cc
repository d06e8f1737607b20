// SPDX-License-Identifier: Apache-2.0
#include "server/oip/near_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace headlight {
namespace {

using ::testing::IsNull;
using ::testing::StrEq;

constexpr const char* kSomeNames[] = {"causal", "window_left", "window_right", "key"};

TEST(NearNameTest, AFewLettersAreForgiven) {
  EXPECT_THAT(NearName("casual", kSomeNames), StrEq("causal"));
  EXPECT_THAT(NearName("causl", kSomeNames), StrEq("causal"));
  EXPECT_THAT(NearName("Causal", kSomeNames), StrEq("causal"));
  EXPECT_THAT(NearName("windowleft", kSomeNames), StrEq("window_left"));
  EXPECT_THAT(NearName("windwo_rigth", kSomeNames), StrEq("window_right"));
  EXPECT_THAT(NearName("keys", kSomeNames), StrEq("key"));
}

TEST(NearNameTest, WhatIsFarIsNotGuessed) {
  EXPECT_THAT(NearName("", kSomeNames), IsNull());
  EXPECT_THAT(NearName("top_k", kSomeNames), IsNull());
  EXPECT_THAT(NearName("yek", kSomeNames), IsNull());
  EXPECT_THAT(NearName(std::string(1 << 20, 'c'), kSomeNames), IsNull());
}

TEST(NearNameTest, TheNamesThatThereAreAreListed) {
  EXPECT_EQ(InsteadOf("kee", kSomeNames),
            "; did you mean key? Wanted one of causal, window_left, window_right, key");
  EXPECT_EQ(InsteadOf("x", kSomeNames), "; wanted one of causal, window_left, window_right, key");
}

}  // namespace
}  // namespace headlight
