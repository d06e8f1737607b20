// SPDX-License-Identifier: Apache-2.0
#include "client/cli/attention_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using ::headlight::testing::StatusIs;
using ::testing::ElementsAre;

constexpr auto kBadMask = absl::StatusCode::kInvalidArgument;

absl::StatusOr<std::vector<int64_t>> LengthsOf(const std::vector<int64_t>& mask,
                                               const std::vector<int64_t>& mask_shape = {2, 3},
                                               const std::vector<int64_t>& input_shape = {2, 3}) {
  return LengthsOfAttentionMask(mask_shape, mask, input_shape);
}

TEST(AttentionMaskTest, TokensAreCounted) {
  EXPECT_THAT(*LengthsOf({1, 1, 1, 1, 0, 0}), ElementsAre(3, 1));
  EXPECT_THAT(*LengthsOf({1, 1, 1, 1, 1, 1}), ElementsAre(3, 3));
  EXPECT_THAT(*LengthsOf({1, 1, 0, 1, 0, 0}, {2, 3}, {2, 3, 768}), ElementsAre(2, 1));
}

TEST(AttentionMaskTest, PaddingComesLast) {
  EXPECT_THAT(
      LengthsOf({1, 1, 1, 0, 1, 1}),
      StatusIs(kBadMask,
               "sequence 1: got padding at its first place, wanted tokens first: padding_side=\"right\""));
  EXPECT_THAT(
      LengthsOf({1, 0, 1, 1, 1, 1}),
      StatusIs(kBadMask,
               "sequence 0: got padding before the token at place 2, wanted padding behind all tokens: "
               "padding_side=\"right\""));
  EXPECT_THAT(LengthsOf({1, 1, 1, 0, 0, 0}),
              StatusIs(kBadMask, ::testing::StartsWith("sequence 1: got padding")));
}

TEST(AttentionMaskTest, OtherValuesAndShapesAreRefused) {
  EXPECT_THAT(LengthsOf({1, 1, 1, 1, 7, 0}),
              StatusIs(kBadMask, "sequence 1: got 7, wanted 1 for a token and 0 for padding"));
  EXPECT_THAT(LengthsOf({1, 1, 1, 1, 1, 1}, {3, 2}),
              StatusIs(kBadMask, "got shape [3, 2], wanted [batch, seq_len] of an input of shape [2, 3]"));
  EXPECT_THAT(LengthsOf({1, 1, 1}, {3}, {3}),
              StatusIs(kBadMask, "got shape [3], wanted [batch, seq_len] of an input of shape [3]"));
}

}  // namespace
}  // namespace headlight::client
