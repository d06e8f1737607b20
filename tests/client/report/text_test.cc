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

TEST(TextTest, ControlCharactersAndBrokenUtf8ArePrintedAsNumbers) {
  EXPECT_EQ(Printable("a b~"), "a b~");
  EXPECT_EQ(Printable("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"),
            "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(Printable("\x1b[2J\r\n\t\x7f"), "\\x1b[2J\\x0d\\x0a\\x09\\x7f");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "2J"),
            "\\xc2\\x9b2J");  // ESC [ in one character
  EXPECT_EQ(Printable("\xc0\x80 \xe0\x9b\xbf \xed\xa0\x80 \xf4\x90\x80\x80 \xff \xe2\x82"),
            "\\xc0\\x80 \\xe0\\x9b\\xbf \\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80 \\xff \\xe2\\x82");
  EXPECT_EQ(Printable(std::string("\0", 1)), "\\x00");
}

TEST(TextTest, CellsOfTablesAreMadePrintable) {
  EXPECT_EQ(FormatTable({{"\x1b[1m", "b"}, {"a", "b\n"}}), "\\x1b[1m  b\na        b\\x0a\n");
}

TEST(TextTest, JsonSurvivesBytesThatAreNoUtf8) {
  EXPECT_EQ(FormatJson({{"a", "x\xff"}}), "{\n  \"a\": \"x\xef\xbf\xbd\"\n}\n");
}

}  // namespace
}  // namespace headlight::client
