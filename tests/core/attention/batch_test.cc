// SPDX-License-Identifier: Apache-2.0
#include "core/attention/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

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

TEST_F(AttentionBatchTest, RefusesASinkWithoutMemory) {
  options_[0].weights = {WeightsSink::Mode::kFull, nullptr, 6, 3};
  ExpectRefusal("sequences[0].weights: got no data");
}

}  // namespace
}  // namespace headlight
