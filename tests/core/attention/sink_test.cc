// SPDX-License-Identifier: Apache-2.0
#include "core/attention/sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

// 4 queries of 5 weights in each of 2 heads.
class CheckSinkTest : public ::testing::Test {
 protected:
  static constexpr int64_t kQueries = 4;
  static constexpr int64_t kKeys = 5;

  absl::Status Check(const WeightsSink& sink) const { return CheckSink(sink, config_, kQueries, kKeys); }
  void ExpectRefusal(const std::string& message) const {
    EXPECT_THAT(Check(sink_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }

  const AttentionConfig config_ = AttentionConfig{.embed_dim = 8, .num_heads = 2}.Resolved();
  std::vector<float> memory_ = std::vector<float>(64);
  WeightsSink sink_;
};

TEST(WeightsSinkTest, SimplifiesGridsOfSinglePairsAlone) {
  const auto simplified = [](WeightsSink sink, int64_t q_len, int64_t num_keys) {
    return sink.Simplified(q_len, num_keys).mode;
  };
  const WeightsSink grid = {.mode = WeightsSink::Mode::kGrid};
  EXPECT_EQ(simplified(grid, 64, 64), WeightsSink::Mode::kFull);
  EXPECT_EQ(simplified(grid, 65, 64), WeightsSink::Mode::kGrid);
  EXPECT_EQ(simplified(grid, 64, 65), WeightsSink::Mode::kGrid);
  WeightsSink part = grid;
  part.query_begin = 8;
  part.query_end = 16;
  part.grid_rows = 8;
  EXPECT_EQ(simplified(part, 100, 20), WeightsSink::Mode::kFull);
  part.grid_cols = 10;
  EXPECT_EQ(simplified(part, 100, 20), WeightsSink::Mode::kGrid);
  EXPECT_EQ(simplified({.mode = WeightsSink::Mode::kMean}, 1, 1), WeightsSink::Mode::kMean);
}

TEST_F(CheckSinkTest, WithoutAModeNothingElseMatters) {
  sink_ = {.mode = WeightsSink::Mode::kNone, .query_begin = 9, .query_end = 2};
  EXPECT_THAT(Check(sink_), IsOk());
}

TEST_F(CheckSinkTest, RefusesModesWithoutMemory) {
  for (const auto mode : {WeightsSink::Mode::kFull, WeightsSink::Mode::kMean, WeightsSink::Mode::kTopK,
                          WeightsSink::Mode::kSummary, WeightsSink::Mode::kGrid}) {
    sink_ = {.mode = mode, .head_stride = 20, .query_stride = 5};
    ExpectRefusal(".weights: got no data");
  }
}

TEST_F(CheckSinkTest, AcceptsSinksInEitherOrder) {
  for (const WeightsSink& sink : {
           WeightsSink{WeightsSink::Mode::kFull, memory_.data(), 20, 5},  // [head, query, key]
           WeightsSink{WeightsSink::Mode::kFull, memory_.data(), 5, 10},  // [query, head, key]
           WeightsSink{WeightsSink::Mode::kFull, memory_.data(), 30, 7},  // with gaps
           WeightsSink{WeightsSink::Mode::kMean, memory_.data(), 0, 5},
           WeightsSink{},
       }) {
    sink_ = sink;
    EXPECT_THAT(Check(sink_), IsOk());
  }
}

TEST_F(CheckSinkTest, RefusesSinksWhoseRowsOverlap) {
  for (const WeightsSink& sink : {
           WeightsSink{WeightsSink::Mode::kFull, memory_.data(), 20, 4},
           WeightsSink{WeightsSink::Mode::kFull, memory_.data(), 19, 5},
           WeightsSink{WeightsSink::Mode::kFull, memory_.data(), 4, 10},
           WeightsSink{WeightsSink::Mode::kFull, memory_.data(), 0, 5},
           WeightsSink{WeightsSink::Mode::kMean, memory_.data(), 20, 4},
       }) {
    sink_ = sink;
    ExpectRefusal(".weights: got head_stride");
  }
}

TEST_F(CheckSinkTest, AppendedKeysWidenTheRowsOfASink) {
  // 5 own keys and 1 appended one.
  sink_ = {WeightsSink::Mode::kMean, memory_.data(), 0, 5};
  AttentionConfig config = config_;
  EXPECT_THAT(CheckSink(sink_, config, kQueries, kKeys), IsOk());
  config.add_zero_attn = true;
  EXPECT_THAT(CheckSink(sink_, config, kQueries, kKeys),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("wanted strides that keep 1 x 4 rows of 6 elements apart")));
  sink_.query_stride = 6;
  EXPECT_THAT(CheckSink(sink_, config, kQueries, kKeys), IsOk());
}

TEST_F(CheckSinkTest, ASinkOfFewerHeadsAndQueriesNeedsLessMemory) {
  const int64_t head[] = {1};
  sink_ = {.mode = WeightsSink::Mode::kFull,
           .data = memory_.data(),
           .heads = head,
           .query_begin = 3,
           .query_end = 4};
  EXPECT_THAT(Check(sink_), IsOk()) << "one row, whatever the strides";
  sink_.query_begin = 2;
  ExpectRefusal("wanted strides that keep 1 x 2 rows of 5 elements apart");
  sink_.query_end = 100;
  sink_.query_begin = 50;
  EXPECT_THAT(Check(sink_), IsOk()) << "cut at q_len: nothing is reported";
}

TEST_F(CheckSinkTest, RefusesHeadsThatThereAreNot) {
  const int64_t beyond[] = {0, 2}, negative[] = {-1}, twice[] = {1, 0, 1};
  sink_ = {WeightsSink::Mode::kFull, memory_.data(), 20, 5};
  sink_.heads = beyond;
  ExpectRefusal(".weights.heads[1]: got 2, wanted 0..1");
  sink_.heads = negative;
  ExpectRefusal(".weights.heads[0]: got -1, wanted 0..1");
  sink_.heads = twice;
  ExpectRefusal(".weights.heads[2]: got 1 again, wanted each head once");
}

TEST_F(CheckSinkTest, RefusesQueryRangesThatRunBackwards) {
  sink_ = {WeightsSink::Mode::kMean, memory_.data(), 0, 5};
  sink_.query_begin = 3;
  sink_.query_end = 2;
  ExpectRefusal(".weights: got queries [3, 2), wanted a range that begins at 0 or later");
  sink_.query_begin = -1;
  ExpectRefusal(".weights: got queries [-1, 2), wanted a range that begins at 0 or later");
}

TEST_F(CheckSinkTest, TopKWantsAPositiveNumberAndAPlaceForTheKeys) {
  std::vector<int32_t> keys(64);
  WeightsSink& sink = sink_;
  sink = {WeightsSink::Mode::kTopK, memory_.data(), 12, 3};
  sink.top_k = 3;
  ExpectRefusal(".weights: got top_k 3 and no keys, wanted at least 1 and a place for the keys");
  sink.keys = keys.data();
  EXPECT_THAT(Check(sink_), IsOk());
  sink.top_k = 0;
  ExpectRefusal(".weights: got top_k 0, wanted at least 1");
  sink.top_k = 4;
  ExpectRefusal("wanted strides that keep 2 x 4 rows of 4 elements apart");
}

TEST_F(CheckSinkTest, AGridWantsAFewCellsAndRoomForThem) {
  WeightsSink& sink = sink_;
  sink = {.mode = WeightsSink::Mode::kGrid, .head_stride = 20, .query_stride = 5};
  ExpectRefusal(".weights: got no data");
  sink.data = memory_.data();
  EXPECT_THAT(Check(sink_), IsOk()) << "a cell for each pair";
  sink.grid_rows = 2;
  sink.grid_cols = 3;
  sink.query_stride = 3;
  sink.head_stride = 6;
  EXPECT_THAT(Check(sink_), IsOk());
  sink.head_stride = 5;
  ExpectRefusal("wanted strides that keep 2 x 2 rows of 3 elements apart");
  sink.grid_rows = 65;
  ExpectRefusal(".weights: got a grid of 65 x 3 cells, wanted 1 to 64 either way");
  sink.grid_rows = 1;
  sink.grid_cols = 0;
  ExpectRefusal(".weights: got a grid of 1 x 0 cells, wanted 1 to 64 either way");
  sink.query_begin = sink.query_end = 4;
  sink.grid_cols = 1;
  EXPECT_THAT(Check(sink_), IsOk()) << "of no queries: nothing is written";
}

TEST_F(CheckSinkTest, SummaryWantsRoomForTheStatisticsAndTheReceivedMass) {
  std::vector<float> received(64);
  WeightsSink& sink = sink_;
  sink = {.mode = WeightsSink::Mode::kSummary, .data = memory_.data(), .head_stride = kNumHeadStatistics};
  ExpectRefusal(".weights.received_mass: got no data");
  sink.received_mass = received.data();
  sink.received_stride = 5;
  EXPECT_THAT(Check(sink_), IsOk());
  sink.received_stride = 4;
  ExpectRefusal(".weights.received_mass: got head_stride 4");
  sink.received_stride = 5;
  sink.head_stride = kNumHeadStatistics - 1;
  ExpectRefusal(".weights: got head_stride 5");
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

}  // namespace
}  // namespace headlight
