// SPDX-License-Identifier: Apache-2.0
#include "client/picture/svg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "tests/client/picture/xml_checker.h"

namespace headlight::client {
namespace {

using ::headlight::testing::XmlError;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(XmlCheckerTest, FindsWhatIsNotWellFormed) {
  EXPECT_THAT(XmlError("<a b=\"1\" c=\"&lt;\">x<d/></a>"), IsEmpty());
  for (const char* bad : {"<a>", "<a></b>", "<a/><b/>", "<a b=\"1\" b=\"2\"/>", "<a>x & y</a>", "<a b=1/>",
                          "<a>1 < 2</a>", "x<a/>", "<a>&nbsp;</a>", ""}) {
    EXPECT_NE(XmlError(bad), "") << bad;
  }
}

TEST(SvgTest, MarkupInTextsIsEscaped) {
  EXPECT_EQ(EscapeXml("<b a='1'>\"&amp;\"</b>"), "&lt;b a=&#39;1&#39;&gt;&quot;&amp;amp;&quot;&lt;/b&gt;");
}

TEST(SvgTest, WhatXmlForbidsIsReplaced) {
  const std::string replaced = "\xef\xbf\xbd";
  EXPECT_EQ(EscapeXml(std::string("a\0b\x1f\x7f", 5)), "a" + replaced + "b" + replaced + "\x7f");
  EXPECT_EQ(EscapeXml("tab\tnewline\n"), "tab\tnewline\n");
  EXPECT_EQ(EscapeXml("\xef\xbf\xbf"), replaced);  // U+FFFF
}

TEST(SvgTest, WhatIsNotUtf8IsReplacedByteByByte) {
  const std::string replaced = "\xef\xbf\xbd";
  EXPECT_EQ(EscapeXml("\xff|\xc3\xa9|\xc3"), replaced + "|\xc3\xa9|" + replaced);
  EXPECT_EQ(EscapeXml("\xc0\xaf"), replaced + replaced);                 // too long a form of '/'
  EXPECT_EQ(EscapeXml("\xed\xa0\x80"), replaced + replaced + replaced);  // a surrogate
  EXPECT_EQ(EscapeXml("\xf4\x90\x80\x80"), replaced + replaced + replaced + replaced);  // beyond Unicode
  EXPECT_EQ(EscapeXml("\xf0\x9f\x99\x82"), "\xf0\x9f\x99\x82");
}

TEST(SvgTest, WideCharactersTakeTwoColumns) {
  EXPECT_EQ(TextColumns("fox"), 3);
  EXPECT_EQ(TextColumns("\u00e9t\u00e9"), 3);
  EXPECT_EQ(TextColumns("\u5149\u7dda"), 4);
}

TEST(SvgTest, ShorteningNeverCutsACharacter) {
  EXPECT_EQ(Shorten("attention", 9), "attention");
  EXPECT_EQ(Shorten("attentions", 9), "attentio\u2026");
  EXPECT_EQ(Shorten("\u5149\u7dda\u5149\u7dda", 6), "\u5149\u7dda\u2026");
}

TEST(SvgTest, LengthsAreShort) {
  EXPECT_EQ(FormatLength(3), "3");
  EXPECT_EQ(FormatLength(0.5), "0.5");
  EXPECT_EQ(FormatLength(100), "100");
  EXPECT_EQ(FormatLength(1.0 / 3), "0.33");
}

TEST(SvgTest, PicturesAreWellFormedWhateverTheirTexts) {
  const std::string nasty = "</svg><script>alert('x')</script> & \" \x01\xff";
  SvgWriter svg(10, 20, nasty);
  svg.BeginGroup("cells");
  svg.Rect({1, 2}, 3, 4, "#abc", nasty);
  svg.EndGroup();
  svg.Text({1, 2}, nasty, {.anchor = Anchor::kEnd, .rotation = -90, .css = "faint"}, nasty);
  svg.Line({0, 0}, {1, 1});
  svg.Frame({0, 0}, 1, 1);
  const std::string picture = std::move(svg).Finish();
  EXPECT_THAT(XmlError(picture), IsEmpty());
  EXPECT_THAT(picture, HasSubstr("<rect x=\"1\" y=\"2\" width=\"3\" height=\"4\" fill=\"#abc\"><title>"));
  EXPECT_THAT(picture, ::testing::Not(HasSubstr("<script")));
}

}  // namespace
}  // namespace headlight::client
