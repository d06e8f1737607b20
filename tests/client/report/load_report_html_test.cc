// SPDX-License-Identifier: Apache-2.0
//
// That the page draws itself is tested in a browser: tests/client/pages/check_pages.sh.
#include "client/report/load_report_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/client/pages/sample_pages.h"
#include "tests/client/picture/xml_checker.h"

namespace headlight::client {
namespace {

using ::headlight::testing::Count;
using ::headlight::testing::SampleSweep;
using ::testing::HasSubstr;

TEST(LoadReportHtmlTest, TheReportIsInThePageAndCannotEndItsElement) {
  const nlohmann::ordered_json report = SampleSweep();
  const std::string page = LoadReportHtml(report);
  const std::string begin = "id=\"data\">";
  const size_t at = page.find(begin);
  ASSERT_NE(at, std::string::npos);
  const std::string data = page.substr(at + begin.size(), page.find("</script>", at) - at - begin.size());
  EXPECT_EQ(nlohmann::ordered_json::parse(data), report);
  EXPECT_EQ(Count(page, "</script>"), 2);
}

TEST(LoadReportHtmlTest, TheTitleNamesTheModel) {
  EXPECT_THAT(LoadReportHtml({{"model", "a<b"}}), HasSubstr("<title>Load test of a&lt;b</title>"));
  EXPECT_THAT(LoadReportHtml(nlohmann::ordered_json::object()),
              HasSubstr("<title>Load test of a model</title>"));
  EXPECT_THAT(LoadReportHtml({{"model", nullptr}}), HasSubstr("<title>Load test of a model</title>"));
}

}  // namespace
}  // namespace headlight::client
