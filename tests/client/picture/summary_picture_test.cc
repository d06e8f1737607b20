// SPDX-License-Identifier: Apache-2.0
#include "client/picture/summary_picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/client/pages/sample_pages.h"
#include "tests/client/picture/xml_checker.h"

namespace headlight::client {
namespace {

using ::headlight::testing::Count;
using ::headlight::testing::SampleSummary;
using ::headlight::testing::XmlError;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(SummaryPictureTest, EachStatisticHasACellForEachLayerAndHead) {
  const std::string svg = SummarySvg(SampleSummary(24, 32));
  EXPECT_THAT(XmlError(svg), IsEmpty());
  EXPECT_EQ(Count(svg, "\nlayer "), 3 * 24 * 32);
  EXPECT_THAT(
      svg, ::testing::AllOf(HasSubstr(">entropy, "), HasSubstr(">distance, "), HasSubstr(" share</text>")));
}

TEST(SummaryPictureTest, ValuesAreInTheCellsAndTheirHoverTexts) {
  SummaryPicture picture{.title = "a < b", .layers = {3}, .heads = {5, 6}};
  picture.statistics.push_back({"entropy", "nats", "How.", {1.25f, NAN}});
  const std::string svg = SummarySvg(picture);
  EXPECT_THAT(XmlError(svg), IsEmpty());
  EXPECT_THAT(svg, HasSubstr("<title>entropy 1.25 nats\nlayer 3, head 5</title>"));
  EXPECT_THAT(svg, HasSubstr(">1.25<"));
  EXPECT_THAT(svg, HasSubstr("<title>entropy nan nats\nlayer 3, head 6</title>"));
}

}  // namespace
}  // namespace headlight::client
