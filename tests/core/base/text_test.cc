// SPDX-License-Identifier: Apache-2.0
#include "core/base/text.h"

#include <gtest/gtest.h>

#include <string>

namespace headlight {
namespace {

TEST(TextTest, QuotedTextCannotForgeALineOfTheLog) {
  EXPECT_EQ(Quoted("a\nverdict=OK\x1b[2J\"\xff"), "\"a\\nverdict=OK\\x1b[2J\\\"\\xff\"");
}

TEST(TextTest, QuotedTextIsCut) {
  EXPECT_EQ(Quoted(std::string(128, 'x')), "\"" + std::string(128, 'x') + "\"");
  EXPECT_EQ(Quoted(std::string(129, 'x')), "\"" + std::string(128, 'x') + "...\"");
}

}  // namespace
}  // namespace headlight
