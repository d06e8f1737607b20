// SPDX-License-Identifier: Apache-2.0
#include "client/report/text.h"

#include <gtest/gtest.h>

namespace headlight::client {
namespace {

using namespace std::chrono_literals;

TEST(TextTest, DurationsAndBytesHaveUnits) {
  EXPECT_EQ(FormatMs(1234567ns), "1.235 ms");
  EXPECT_EQ(FormatSeconds(10s), "10.0 s");
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "1.0 kB");
  EXPECT_EQ(FormatBytes(98'304), "98.3 kB");
  EXPECT_EQ(FormatBytes(999'999), "1.0 MB");
  EXPECT_EQ(FormatBytes(268'435'456), "268.4 MB");
  EXPECT_EQ(FormatBytes(5'000'000'000'000'000), "5000.0 TB");
}

TEST(TextTest, TableColumnsLineUpWithoutTrailingBlanks) {
  EXPECT_EQ(FormatTable({{"a", "bbb", "c"}, {"aaaa", "b"}, {"x", "y", "zz"}}),
            "a     bbb  c\n"
            "aaaa  b\n"
            "x     y    zz\n");
  EXPECT_EQ(FormatTable({}), "");
}

}  // namespace
}  // namespace headlight::client
