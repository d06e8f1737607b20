// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cpu_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::Eq;
using ::testing::IsEmpty;
using ::testing::Optional;

std::optional<std::vector<int>> Read(const std::string& bytes) {
  const testing::TempFolder folder;
  return ReadCpuList(folder.Write("list", bytes));
}

TEST(CpuListTest, ReadsNumbersAndRanges) {
  EXPECT_THAT(Read("3\n"), Optional(ElementsAre(3)));
  EXPECT_THAT(Read("0-3,8,10-11\n"), Optional(ElementsAre(0, 1, 2, 3, 8, 10, 11)));
  EXPECT_THAT(Read("5-5"), Optional(ElementsAre(5)));
}

TEST(CpuListTest, AscendsWhateverTheOrder) { EXPECT_THAT(Read("9,1-2,2\n"), Optional(ElementsAre(1, 2, 9))); }

// As a node without CPUs has it.
TEST(CpuListTest, AnEmptyLineListsNone) { EXPECT_THAT(Read("\n"), Optional(IsEmpty())); }

TEST(CpuListTest, WhatIsNoListIsNone) {
  for (const char* bytes : {"", "x", "1,", "3-1", "-1", "1-2-3", "0-8192", "0-4294967295", "1;2"}) {
    EXPECT_THAT(Read(bytes), Eq(std::nullopt)) << bytes;
  }
  EXPECT_THAT(ReadCpuList("/nowhere/at/all"), Eq(std::nullopt));
}

}  // namespace
}  // namespace headlight
