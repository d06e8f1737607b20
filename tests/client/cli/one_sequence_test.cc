// SPDX-License-Identifier: Apache-2.0
#include "client/cli/one_sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace headlight::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(OneSequenceTest, ExtentsComeFromLengthsOrElseShapes) {
  const std::vector<float> values(100);
  AttendCall call{.query = TensorView{{2, 5, 4}, values}};
  EXPECT_EQ(ExtentOf(call, 1)->q_len, 5);
  EXPECT_EQ(ExtentOf(call, 1)->num_sequences, 2);
  call.seq_lens = {5, 3};
  EXPECT_EQ(ExtentOf(call, 1)->q_len, 3);
  EXPECT_EQ(ExtentOf(call, 1)->kv_len, 3);
  EXPECT_TRUE(ExtentOf(call, 1)->self_attention);
  call.key = TensorView{{2, 7, 4}, values};
  EXPECT_EQ(ExtentOf(call, 1)->kv_len, 7);
  EXPECT_FALSE(ExtentOf(call, 1)->self_attention);
  call.kv_seq_lens = {7, 6};
  EXPECT_EQ(ExtentOf(call, 1)->kv_len, 6);

  AttendCall ragged{.query = TensorView{{8, 4}, values}, .seq_lens = {5, 3}};
  EXPECT_EQ(ExtentOf(ragged, 0)->q_len, 5);
  ragged.seq_lens = {};
  EXPECT_EQ(ExtentOf(ragged, 0)->q_len, 8);

  const std::vector<int32_t> ids(6);
  EXPECT_EQ(ExtentOf({.token_ids = IdsView{{1, 6}, std::span<const int32_t>(ids)}}, 0)->q_len, 6);
}

TEST(OneSequenceTest, ASequenceThatIsNotThereIsRefused) {
  const std::vector<float> values(40);
  const AttendCall call{.query = TensorView{{2, 5, 4}, values}};
  EXPECT_EQ(ExtentOf(call, 2).status().message(),
            "--sequence: got 2, wanted less than 2, the number of sequences");
}

// 0, 1, 2, ...
std::vector<float> Counted(size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

std::vector<float> ValuesOf(const TensorView& view) { return {view.values.begin(), view.values.end()}; }

TEST(OneSequenceTest, ItsRowsAreTakenFromDenseTensors) {
  const std::vector<float> query = Counted(2 * 3 * 2), key = Counted(2 * 4 * 1);
  const AttendCall call{.query = TensorView{{2, 3, 2}, query},
                        .key = TensorView{{2, 4, 1}, key},
                        .seq_lens = {3, 2},
                        .kv_seq_lens = {1, 3},
                        .query_begin = 1,
                        .query_end = 3};
  Mask mask;
  const auto second = CallOfSequence(call, 1, mask);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_THAT(second->query->shape, ElementsAre(1, 2, 2));
  EXPECT_THAT(ValuesOf(*second->query), ElementsAre(6, 7, 8, 9));
  EXPECT_THAT(second->key->shape, ElementsAre(1, 3, 1));
  EXPECT_THAT(ValuesOf(*second->key), ElementsAre(4, 5, 6));
  EXPECT_THAT(second->seq_lens, IsEmpty());
  EXPECT_THAT(second->kv_seq_lens, IsEmpty());
  EXPECT_EQ(second->query_begin, 1);
  EXPECT_EQ(second->query_end, 2) << "no further than it goes";
}

TEST(OneSequenceTest, ItsRowsAreTakenFromRaggedTensors) {
  const std::vector<int64_t> ids = {10, 11, 12, 13, 14, 15};
  const std::vector<int32_t> types = {0, 0, 0, 1, 1, 2};
  const AttendCall call{.token_ids = IdsView{{6}, std::span<const int64_t>(ids)},
                        .token_types = IdsView{{6}, std::span<const int32_t>(types)},
                        .seq_lens = {3, 2, 1}};
  Mask mask;
  const auto second = CallOfSequence(call, 1, mask);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_THAT(second->token_ids->shape, ElementsAre(1, 2));
  EXPECT_THAT(std::get<std::span<const int64_t>>(second->token_ids->values), ElementsAre(13, 14));
  EXPECT_THAT(std::get<std::span<const int32_t>>(second->token_types->values), ElementsAre(1, 1));
}

TEST(OneSequenceTest, ItsMaskIsTheCornerThatItReads) {
  const std::vector<float> query = Counted(2 * 3);
  // Two maps of 3 queries and 3 keys for each sequence, or for both.
  const std::vector<float> added = Counted(2 * 2 * 9);
  AttendCall call{.query = TensorView{{2, 3, 1}, query},
                  .mask = MaskView{{2, 2, 3, 3}, std::span<const float>(added)},
                  .seq_lens = {3, 2}};
  Mask mask;
  const auto own = CallOfSequence(call, 1, mask);
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_THAT(own->mask->shape, ElementsAre(1, 2, 2, 2));
  EXPECT_THAT(std::get<std::span<const float>>(own->mask->values),
              ElementsAre(18, 19, 21, 22, 27, 28, 30, 31));

  const std::vector<uint8_t> allowed = {1, 0, 1, 0, 1, 0, 1, 1, 1};
  call.mask = MaskView{{1, 1, 3, 3}, std::span<const uint8_t>(allowed)};
  const auto shared = CallOfSequence(call, 1, mask);
  ASSERT_TRUE(shared.ok()) << shared.status();
  EXPECT_THAT(std::get<std::span<const uint8_t>>(shared->mask->values), ElementsAre(1, 0, 0, 1));
}

TEST(OneSequenceTest, ALoneSequenceIsLeftAsItIs) {
  const std::vector<float> query = Counted(5);
  const AttendCall call{.query = TensorView{{1, 5, 1}, query}, .seq_lens = {4}, .query_end = 9};
  Mask mask;
  const auto same = CallOfSequence(call, 0, mask);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_THAT(same->query->shape, ElementsAre(1, 5, 1));
  EXPECT_THAT(same->seq_lens, ElementsAre(4));
  EXPECT_EQ(same->query_end, 9) << "the server refuses it";
}

TEST(OneSequenceTest, ShapesThatMakeNoSenseAreRefused) {
  const std::vector<float> values = Counted(100);
  const auto refused = [](const AttendCall& call) {
    Mask mask;
    const auto lone = CallOfSequence(call, 1, mask);
    EXPECT_EQ(lone.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(lone.status().message());
  };
  const TensorView query{{2, 5, 4}, values};
  EXPECT_EQ(refused({.query = query, .seq_lens = {5, 6}}),
            "query: got lengths [5, 6] of sequences in leading dimensions [2, 5]");
  EXPECT_EQ(refused({.query = TensorView{{8, 4}, values}, .seq_lens = {5, 2}}),
            "query: got lengths [5, 2] of sequences in leading dimensions [8]");
  EXPECT_EQ(refused({.query = query, .key = query, .value = TensorView{{1, 5, 4}, values}}),
            "value: got 1 sequences, wanted more than 1");
  EXPECT_THAT(
      refused({.query = query, .mask = MaskView{{2, 1, 5, 4}, std::span<const float>(values)}}),
      HasSubstr("mask: got [2, 1, 5, 4], wanted [2 or 1, num_heads or 1, q_len, kv_len] with at least "
                "5 queries and 5 keys"));
}

}  // namespace
}  // namespace headlight::client
