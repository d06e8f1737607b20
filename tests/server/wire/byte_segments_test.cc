// SPDX-License-Identifier: Apache-2.0
#include "server/wire/byte_segments.h"

#include <gtest/gtest.h>

#include <span>
#include <string>

#include "tests/server/attend_fixtures.h"

namespace headlight {
namespace {

using testing::Segmented;

TEST(ByteSegmentsTest, NothingIsContiguousAndEmpty) {
  const ByteSegments segments;
  EXPECT_TRUE(segments.empty());
  EXPECT_TRUE(segments.contiguous());
  EXPECT_EQ(segments.data(), nullptr);
  segments.CopyTo(0, 0, nullptr);
}

TEST(ByteSegmentsTest, LeavesOutEmptySegments) {
  const std::string text = "abc";
  ByteSegments segments;
  segments.Append({});
  segments.Append(std::as_bytes(std::span(text)));
  segments.Append({});
  EXPECT_EQ(segments.num_segments(), 1u);
  EXPECT_TRUE(segments.contiguous());
  EXPECT_EQ(static_cast<const void*>(segments.data()), text.data());
  EXPECT_EQ(segments.size_bytes(), 3);
}

TEST(ByteSegmentsTest, CopiesEveryRangeOfEverySegmentation) {
  const std::string text = "0123456789abcdef";
  for (size_t segment_bytes = 1; segment_bytes <= text.size(); ++segment_bytes) {
    const ByteSegments segments = Segmented(text, segment_bytes);
    ASSERT_EQ(segments.size_bytes(), static_cast<int64_t>(text.size()));
    for (size_t begin = 0; begin <= text.size(); ++begin) {
      for (size_t length = 0; begin + length <= text.size(); ++length) {
        std::string copy(length, '?');
        segments.CopyTo(begin, length, std::as_writable_bytes(std::span(copy)).data());
        ASSERT_EQ(copy, text.substr(begin, length)) << segment_bytes << " " << begin;
      }
    }
  }
}

}  // namespace
}  // namespace headlight
