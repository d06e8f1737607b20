// SPDX-License-Identifier: Apache-2.0
#include "client/load/timeline.h"

#include <gtest/gtest.h>

namespace headlight::client {
namespace {

using namespace std::chrono_literals;

TEST(TimelineTest, PutsTimesIntoBins) {
  Timeline timeline(1s);
  ++timeline.At(0s)->sent;
  ++timeline.At(999ms)->sent;
  ++timeline.At(1s)->replies;
  ++timeline.At(3500ms)->refused;
  EXPECT_EQ(timeline.At(-1ns), nullptr);
  ASSERT_EQ(timeline.bins().size(), 4u);
  EXPECT_EQ(timeline.bins()[0].sent, 2);
  EXPECT_EQ(timeline.bins()[1].replies, 1);
  EXPECT_EQ(timeline.bins()[2].sent, 0);
  EXPECT_EQ(timeline.bins()[3].refused, 1);
}

TEST(TimelineTest, TooManyBinsBecomeWiderAndLoseNothing) {
  Timeline timeline(1s);
  for (int second = 0; second < 1000; ++second) {
    TimelineBin* const bin = timeline.At(std::chrono::seconds(second));
    ++bin->sent;
    bin->latency.Record(std::chrono::milliseconds(second));
  }
  EXPECT_EQ(timeline.width(), 4s);
  ASSERT_EQ(timeline.bins().size(), 250u);
  for (size_t i = 0; i < 250; ++i) {
    EXPECT_EQ(timeline.bins()[i].sent, 4);
    EXPECT_EQ(timeline.bins()[i].latency.max(), std::chrono::milliseconds(4 * i + 3));
  }
}

TEST(TimelineTest, MergesThoseOfOtherWidths) {
  Timeline wide(1s), narrow(1s);
  ++wide.At(300s)->sent;
  ++narrow.At(1s)->sent;
  ++narrow.At(2s)->sent;
  Timeline merged = narrow;
  merged.Merge(wide);
  wide.Merge(narrow);
  for (const Timeline* timeline : {&merged, &wide}) {
    EXPECT_EQ(timeline->width(), 2s);
    ASSERT_EQ(timeline->bins().size(), 151u);
    EXPECT_EQ(timeline->bins()[0].sent, 1);
    EXPECT_EQ(timeline->bins()[1].sent, 1);
    EXPECT_EQ(timeline->bins()[150].sent, 1);
  }
}

}  // namespace
}  // namespace headlight::client
