// SPDX-License-Identifier: Apache-2.0
#include "client/picture/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/client/picture/xml_checker.h"

namespace headlight::client {
namespace {

using ::headlight::testing::Count;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(PageTest, JsonCannotEndItsElement) {
  const nlohmann::ordered_json data = {{"text", "</script><!-- <script>"}};
  const std::string text = ScriptJson(data);
  EXPECT_THAT(text, Not(HasSubstr("<")));
  EXPECT_EQ(nlohmann::ordered_json::parse(text), data);
}

TEST(PageTest, JsonOfWhatIsNotUtf8IsReplacedNotThrown) {
  EXPECT_THAT(ScriptJson({{"text", "\xff"}}), HasSubstr("\xef\xbf\xbd"));
}

TEST(PageTest, ThePageHoldsTitleDataAndScript) {
  const std::string page = HtmlPage("A & B", {{"a", 1}}, "draw();");
  EXPECT_THAT(page, HasSubstr("<title>A &amp; B</title>"));
  EXPECT_THAT(page, HasSubstr("<script type=\"application/json\" id=\"data\">{\"a\":1}</script>"));
  EXPECT_THAT(page, HasSubstr("draw();</script>"));
  EXPECT_EQ(page.find("{{"), std::string::npos);
}

// A place of the template that comes out of the data is data.
TEST(PageTest, DataIsNotATemplate) {
  EXPECT_THAT(HtmlPage("{{data}}", {{"a", "{{script}}"}}, "draw();"),
              ::testing::AllOf(HasSubstr("<title>{{data}}</title>"), HasSubstr("{\"a\":\"{{script}}\"}")));
}

TEST(PageTest, AssetsFetchNothingAndCannotEndTheirElement) {
  const std::vector<std::string> scripts = {kPlotJs,       kLoadDataJs,   kLoadPlotsJs,
                                            kLoadTablesJs, kLoadReportJs, kAttentionMapsJs};
  std::vector<std::string> assets = scripts;
  assets.insert(assets.end(), {kPageHtml, kPageCss});
  for (const std::string& asset : assets) {
    EXPECT_EQ(
        Count(asset, "https://") + Count(asset, "@import") + Count(asset, "fetch(") + Count(asset, " src="),
        0);
  }
  for (const std::string& script : scripts) {
    EXPECT_EQ(Count(script, "</script") + Count(script, "<!--") + Count(script, "innerHTML"), 0);
  }
}

TEST(PageTest, Base64PadsItsEnd) {
  EXPECT_EQ(Base64(""), "");
  EXPECT_EQ(Base64("a"), "YQ==");
  EXPECT_EQ(Base64(std::string("\0\xff\xfe", 3)), "AP/+");
}

}  // namespace
}  // namespace headlight::client
