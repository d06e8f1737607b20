// SPDX-License-Identifier: Apache-2.0
#include "server/models/version_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace headlight {
namespace {

TEST(VersionOrderTest, NumbersByValueAndBeforeTexts) {
  std::vector<std::string> versions = {"final", "10", "9", "beta", "0", "1"};
  std::sort(versions.begin(), versions.end(), VersionLess());
  EXPECT_EQ(versions, (std::vector<std::string>{"0", "1", "9", "10", "beta", "final"}));
}

TEST(VersionOrderTest, OneOfTwoSpellingsOfANumberComesFirst) {
  EXPECT_NE(VersionLess()("1", "01"), VersionLess()("01", "1"));
  EXPECT_FALSE(VersionLess()("1", "1"));
}

}  // namespace
}  // namespace headlight
