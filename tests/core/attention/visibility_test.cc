// SPDX-License-Identifier: Apache-2.0
#include "core/attention/visibility.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <utility>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

TEST(CheckWindowTest, TakesNoneAndAnySideFromZeroOn) {
  EXPECT_THAT(CheckWindow("side", std::nullopt), IsOk());
  EXPECT_THAT(CheckWindow("side", 0), IsOk());
  EXPECT_THAT(CheckWindow("side", std::numeric_limits<int64_t>::max()), IsOk());
}

TEST(CheckWindowTest, RefusesSidesBelowZeroByTheirName) {
  EXPECT_THAT(CheckWindow("side", -1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("side: got -1, wanted at least 0")));
}

TEST(NarrowedTest, AllowsWhatBothAllow) {
  const Visibility both =
      Narrowed({.causal = false, .window_left = 3, .window_right = 1}, {.causal = true, .window_left = 2});
  EXPECT_TRUE(both.causal);
  EXPECT_EQ(both.window_left, 2);
  EXPECT_EQ(both.window_right, 1);
}

TEST(NarrowedTest, OfNothingAllowsEverything) {
  const Visibility both = Narrowed({}, {});
  EXPECT_FALSE(both.causal);
  EXPECT_EQ(both.window_left, std::nullopt);
  EXPECT_EQ(both.window_right, std::nullopt);
}

// [begin, end) of the visible keys of one query.
using Range = std::pair<int64_t, int64_t>;
Range Visible(const Visibility& visibility, int64_t query, int64_t q_len, int64_t kv_len) {
  const KeyRange range = VisibleKeys(visibility, query, q_len, kv_len);
  return {range.begin, range.end};
}

TEST(VisibleKeysTest, AreAllByDefault) {
  EXPECT_EQ(Visible({}, 0, 4, 6), Range(0, 6));
  EXPECT_EQ(Visible({}, 0, 9, 6), Range(0, 6));
}

TEST(VisibleKeysTest, CausalIsAlignedAtTheEnd) {
  const Visibility causal = {.causal = true};
  EXPECT_EQ(Visible(causal, 0, 4, 4), Range(0, 1));
  EXPECT_EQ(Visible(causal, 3, 4, 4), Range(0, 4));
  EXPECT_EQ(Visible(causal, 0, 2, 6), Range(0, 5)) << "4 keys came before";
  EXPECT_EQ(Visible(causal, 2, 6, 2).second, 0) << "before the first key";
  EXPECT_EQ(Visible(causal, 5, 6, 2), Range(0, 2));
}

TEST(VisibleKeysTest, WindowsBoundBothSides) {
  const Visibility window = {.window_left = 1, .window_right = 2};
  EXPECT_EQ(Visible(window, 0, 8, 8), Range(0, 3));
  EXPECT_EQ(Visible(window, 4, 8, 8), Range(3, 7));
  EXPECT_EQ(Visible(window, 7, 8, 8), Range(6, 8));
}

TEST(VisibleKeysTest, CausalCutsTheWindowsRight) {
  EXPECT_EQ(Visible({.causal = true, .window_left = 1, .window_right = 2}, 4, 8, 8), Range(3, 5));
}

TEST(VisibleKeysTest, IsEmptyForAQueryOutsideTheKeys) {
  const Range range = Visible({.window_left = 0, .window_right = 0}, 0, 8, 2);
  EXPECT_EQ(range.first, range.second);
}

TEST(VisibleKeysTest, HugeWindowsBoundNothing) {
  const int64_t huge = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(Visible({.window_left = huge, .window_right = huge}, 3, 8, 8), Range(0, 8));
}

TEST(VisibleKeysTest, AreThoseThatTheRulesNameOneByOne) {
  const std::optional<int64_t> sides[] = {std::nullopt, 0, 1, 5};
  for (const bool causal : {false, true}) {
    for (const auto& left : sides) {
      for (const auto& right : sides) {
        for (const auto& [q_len, kv_len] : {std::pair(1, 9), std::pair(7, 7), std::pair(9, 4)}) {
          for (int64_t query = 0; query < q_len; ++query) {
            const KeyRange range = VisibleKeys({causal, left, right}, query, q_len, kv_len);
            const int64_t position = query + kv_len - q_len;
            for (int64_t key = 0; key < kv_len; ++key) {
              const bool sees = !(causal && key > position) && !(left && position - key > *left) &&
                                !(right && key - position > *right);
              ASSERT_EQ(key >= range.begin && key < range.end, sees)
                  << "query " << query << " of " << q_len << ", key " << key << " of " << kv_len;
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace headlight
