// SPDX-License-Identifier: Apache-2.0
#include "core/attention/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

// Two sequences: 2 queries to 3 keys, 4 queries to 5 keys. Each test breaks one thing.
class AttentionBatchTest : public ::testing::Test {
 protected:
  AttentionBatchTest() {
    batch_.query = {data_.data(), 6, 8, 8};
    batch_.key = {data_.data(), 8, 5, 5};
    batch_.value = {data_.data(), 8, 7, 7};
    batch_.output = {output_.data(), 6, 8, 8};
    batch_.cu_q_lens = cu_q_lens_;
    batch_.cu_kv_lens = cu_kv_lens_;
    batch_.sequences = options_;
  }

  void ExpectRefusal(const std::string& message) const {
    EXPECT_THAT(batch_.Validate(config_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }

  const AttentionConfig config_ =
      AttentionConfig{.embed_dim = 8, .num_heads = 2, .kdim = 5, .vdim = 7}.Resolved();
  std::vector<float> data_ = std::vector<float>(64);
  std::vector<float> output_ = std::vector<float>(64);
  std::vector<float> sink_ = std::vector<float>(64);
  std::vector<int64_t> cu_q_lens_ = {0, 2, 6};
  std::vector<int64_t> cu_kv_lens_ = {0, 3, 8};
  std::vector<SequenceOptions> options_ = std::vector<SequenceOptions>(2);
  AttentionBatch batch_;
};

TEST_F(AttentionBatchTest, AcceptsWhatFits) {
  EXPECT_THAT(batch_.Validate(config_), IsOk());
  EXPECT_EQ(batch_.num_sequences(), 2);
  EXPECT_EQ(batch_.q_len(1), 4);
  EXPECT_EQ(batch_.kv_len(1), 5);
}

TEST_F(AttentionBatchTest, RefusesMissingData) {
  batch_.key.data = nullptr;
  ExpectRefusal("key: got no data");
}

TEST_F(AttentionBatchTest, RefusesOtherWidthsThanTheConfigs) {
  batch_.query.cols = 9;
  ExpectRefusal("query: got 9 columns, wanted embed_dim 8");
  batch_.query.cols = 8;
  batch_.key.cols = 7;
  ExpectRefusal("key: got 7 columns, wanted kdim 5");
  batch_.key.cols = 5;
  batch_.value.cols = 5;
  ExpectRefusal("value: got 5 columns, wanted vdim 7");
  batch_.value.cols = 7;
  batch_.output.cols = 7;
  ExpectRefusal("output: got 7 columns, wanted embed_dim 8");
}

TEST_F(AttentionBatchTest, RefusesRowsThatAreNotAdjacent) {
  batch_.output.stride = 9;
  ExpectRefusal("output: got a stride of 9, wanted its 8 columns");
  batch_.output.stride = 8;
  batch_.query.stride = 4;
  ExpectRefusal("query: got a stride of 4, wanted its 8 columns");
}

TEST_F(AttentionBatchTest, RefusesRowCountsThatDisagree) {
  batch_.value.rows = 7;
  ExpectRefusal("value: got 7 rows, wanted 8 as in key");
  batch_.value.rows = 8;
  batch_.output.rows = 5;
  ExpectRefusal("output: got 5 rows, wanted 6 as in query");
}

TEST_F(AttentionBatchTest, RefusesABatchOfNothing) {
  batch_.sequences = {};
  ExpectRefusal("sequences: got none");
}

TEST_F(AttentionBatchTest, RefusesListsOfAnotherLength) {
  cu_q_lens_ = {0, 6};
  batch_.cu_q_lens = cu_q_lens_;
  ExpectRefusal("cu_q_lens: got 2 entries, wanted 3");
}

TEST_F(AttentionBatchTest, RefusesListsThatDoNotBeginWithZero) {
  cu_kv_lens_[0] = 1;
  ExpectRefusal("cu_kv_lens[0]: got 1, wanted 0");
}

TEST_F(AttentionBatchTest, RefusesEmptySequences) {
  cu_q_lens_ = {0, 6, 6};
  ExpectRefusal("cu_q_lens[2]: got 6, wanted more than 6 before it");
  cu_q_lens_ = {0, 2, 6};
  cu_kv_lens_ = {0, 0, 8};
  ExpectRefusal("cu_kv_lens[1]: got 0, wanted more than 0 before it");
}

TEST_F(AttentionBatchTest, RefusesLengthsThatDoNotSumToTheRows) {
  cu_kv_lens_[2] = 7;
  ExpectRefusal("cu_kv_lens: got 7 as last entry, wanted the number of rows, 8");
}

TEST_F(AttentionBatchTest, RefusesNegativeWindows) {
  options_[1].visibility.window_left = -1;
  ExpectRefusal("sequences[1].visibility.window_left: got -1, wanted at least 0");
  options_[1].visibility.window_left = 0;
  options_[1].visibility.window_right = -5;
  ExpectRefusal("sequences[1].visibility.window_right: got -5, wanted at least 0");
}

TEST_F(AttentionBatchTest, RefusesMasksThatRunBackwards) {
  options_[0].mask = {data_.data(), DType::kF32, -6, 3};
  ExpectRefusal("sequences[0].mask: got strides of -6 and 3");
}

TEST_F(AttentionBatchTest, RefusesMasksOfTypesThatAreNone) {
  for (const auto& [dtype, name] : {std::pair(DType::kF16, "f16"), std::pair(DType::kBf16, "bf16"),
                                    std::pair(DType::kI32, "i32"), std::pair(DType::kI64, "i64")}) {
    options_[0].mask = {data_.data(), dtype, 6, 3};
    ExpectRefusal(absl::StrCat("sequences[0].mask: got the type ", name, ", wanted bool or f32"));
  }
}

TEST_F(AttentionBatchTest, AcceptsOneMaskRowForAllQueries) {
  options_[0].mask = {data_.data(), DType::kF32, 0, 0};
  EXPECT_THAT(batch_.Validate(config_), IsOk());
}

TEST_F(AttentionBatchTest, RefusesASinkWithoutMemory) {
  options_[0].weights = {WeightsSink::Mode::kFull, nullptr, 6, 3};
  ExpectRefusal("sequences[0].weights: got no data");
}

TEST_F(AttentionBatchTest, AcceptsSinksInEitherOrder) {
  // The second sequence has 4 queries of 5 weights in each of 2 heads.
  for (const WeightsSink& sink : {
           WeightsSink{WeightsSink::Mode::kFull, sink_.data(), 20, 5},  // [head, query, key]
           WeightsSink{WeightsSink::Mode::kFull, sink_.data(), 5, 10},  // [query, head, key]
           WeightsSink{WeightsSink::Mode::kFull, sink_.data(), 30, 7},  // with gaps
           WeightsSink{WeightsSink::Mode::kMean, sink_.data(), 0, 5},
           WeightsSink{},
       }) {
    options_[1].weights = sink;
    EXPECT_THAT(batch_.Validate(config_), IsOk());
  }
}

TEST_F(AttentionBatchTest, RefusesSinksWhoseRowsOverlap) {
  for (const WeightsSink& sink : {
           WeightsSink{WeightsSink::Mode::kFull, sink_.data(), 20, 4},
           WeightsSink{WeightsSink::Mode::kFull, sink_.data(), 19, 5},
           WeightsSink{WeightsSink::Mode::kFull, sink_.data(), 4, 10},
           WeightsSink{WeightsSink::Mode::kFull, sink_.data(), 0, 5},
           WeightsSink{WeightsSink::Mode::kMean, sink_.data(), 20, 4},
       }) {
    options_[1].weights = sink;
    ExpectRefusal("sequences[1].weights: got head_stride");
  }
}

TEST_F(AttentionBatchTest, AppendedKeysWidenTheRowsOfASink) {
  // 5 own keys and 1 appended one.
  options_[1].weights = {WeightsSink::Mode::kMean, sink_.data(), 0, 5};
  AttentionConfig config = config_;
  EXPECT_THAT(batch_.Validate(config), IsOk());
  config.add_zero_attn = true;
  EXPECT_THAT(batch_.Validate(config),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("wanted strides that keep 1 x 4 rows of 6 elements apart")));
  options_[1].weights.query_stride = 6;
  EXPECT_THAT(batch_.Validate(config), IsOk());
}

TEST_F(AttentionBatchTest, ASinkOfFewerHeadsAndQueriesNeedsLessMemory) {
  const int64_t head[] = {1};
  options_[1].weights = {.mode = WeightsSink::Mode::kFull,
                         .data = sink_.data(),
                         .heads = head,
                         .query_begin = 3,
                         .query_end = 4};
  EXPECT_THAT(batch_.Validate(config_), IsOk()) << "one row, whatever the strides";
  options_[1].weights.query_begin = 2;
  ExpectRefusal("wanted strides that keep 1 x 2 rows of 5 elements apart");
  options_[1].weights.query_end = 100;
  options_[1].weights.query_begin = 50;
  EXPECT_THAT(batch_.Validate(config_), IsOk()) << "cut at q_len: nothing is reported";
}

TEST_F(AttentionBatchTest, RefusesHeadsThatThereAreNot) {
  const int64_t beyond[] = {0, 2}, negative[] = {-1}, twice[] = {1, 0, 1};
  options_[1].weights = {WeightsSink::Mode::kFull, sink_.data(), 20, 5};
  options_[1].weights.heads = beyond;
  ExpectRefusal("sequences[1].weights.heads[1]: got 2, wanted 0..1");
  options_[1].weights.heads = negative;
  ExpectRefusal("sequences[1].weights.heads[0]: got -1, wanted 0..1");
  options_[1].weights.heads = twice;
  ExpectRefusal("sequences[1].weights.heads[2]: got 1 again, wanted each head once");
}

TEST_F(AttentionBatchTest, RefusesQueryRangesThatRunBackwards) {
  options_[1].weights = {WeightsSink::Mode::kMean, sink_.data(), 0, 5};
  options_[1].weights.query_begin = 3;
  options_[1].weights.query_end = 2;
  ExpectRefusal("sequences[1].weights: got queries [3, 2), wanted a range that begins at 0 or later");
  options_[1].weights.query_begin = -1;
  ExpectRefusal("sequences[1].weights: got queries [-1, 2), wanted a range that begins at 0 or later");
}

TEST_F(AttentionBatchTest, TopKWantsAPositiveNumberAndAPlaceForTheKeys) {
  std::vector<int32_t> keys(64);
  WeightsSink& sink = options_[1].weights;
  sink = {WeightsSink::Mode::kTopK, sink_.data(), 12, 3};
  sink.top_k = 3;
  ExpectRefusal("sequences[1].weights: got top_k 3 and no keys, wanted at least 1 and a place for the keys");
  sink.keys = keys.data();
  EXPECT_THAT(batch_.Validate(config_), IsOk());
  sink.top_k = 0;
  ExpectRefusal("sequences[1].weights: got top_k 0, wanted at least 1");
  sink.top_k = 4;
  ExpectRefusal("wanted strides that keep 2 x 4 rows of 4 elements apart");
}

TEST_F(AttentionBatchTest, SummaryWantsRoomForTheStatisticsAndTheReceivedMass) {
  std::vector<float> received(64);
  WeightsSink& sink = options_[1].weights;
  sink = {.mode = WeightsSink::Mode::kSummary, .data = sink_.data(), .head_stride = kNumHeadStatistics};
  ExpectRefusal("sequences[1].weights.received_mass: got no data");
  sink.received_mass = received.data();
  sink.received_stride = 5;
  EXPECT_THAT(batch_.Validate(config_), IsOk());
  sink.received_stride = 4;
  ExpectRefusal("sequences[1].weights.received_mass: got head_stride 4");
  sink.received_stride = 5;
  sink.head_stride = kNumHeadStatistics - 1;
  ExpectRefusal("sequences[1].weights: got head_stride 5");
}

TEST(WeightsSinkTest, FindsThePlaceOfAHead) {
  const int64_t heads[] = {4, 1};
  const WeightsSink some = {.heads = heads};
  EXPECT_EQ(some.NumHeads(6), 2);
  EXPECT_EQ(some.HeadPlace(4), 0);
  EXPECT_EQ(some.HeadPlace(1), 1);
  EXPECT_EQ(some.HeadPlace(0), -1);
  EXPECT_EQ(WeightsSink{}.NumHeads(6), 6);
  EXPECT_EQ(WeightsSink{}.HeadPlace(5), 5);
}

TEST(WeightsSinkTest, CutsItsQueriesAtTheSequencesEnd) {
  const WeightsSink some = {.query_begin = 3, .query_end = 9};
  EXPECT_EQ(some.QueryBegin(20), 3);
  EXPECT_EQ(some.QueryEnd(20), 9);
  EXPECT_EQ(some.QueryEnd(5), 5);
  EXPECT_EQ(some.QueryBegin(2), 2);
  EXPECT_EQ(some.QueryEnd(2), 2);
  EXPECT_EQ(WeightsSink{}.QueryBegin(20), 0);
  EXPECT_EQ(WeightsSink{}.QueryEnd(20), 20);
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

}  // namespace
}  // namespace headlight
