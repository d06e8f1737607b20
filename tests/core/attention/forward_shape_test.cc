// SPDX-License-Identifier: Apache-2.0
#include "core/attention/forward_shape.h"

#include <gtest/gtest.h>

#include <vector>

namespace headlight {
namespace {

TEST(ForwardShapeTest, CountsTokensAndFindsTheLongestSequences) {
  const std::vector<float> rows(64);
  const std::vector<int64_t> cu_q_lens = {0, 2, 9, 10}, cu_kv_lens = {0, 8, 9, 20};
  std::vector<SequenceOptions> options(3);
  AttentionBatch batch = {.query = {rows.data(), 10, 2, 2},
                          .key = {rows.data() + 1, 20, 2, 2},
                          .value = {rows.data() + 1, 20, 2, 2},
                          .cu_q_lens = cu_q_lens,
                          .cu_kv_lens = cu_kv_lens,
                          .sequences = options};
  ForwardShape shape = ShapeOf(batch);
  EXPECT_EQ(shape.tokens, 10);
  EXPECT_EQ(shape.kv_tokens, 20);
  EXPECT_EQ(shape.num_sequences, 3);
  EXPECT_EQ(shape.longest, 7);
  EXPECT_EQ(shape.longest_kv, 11);
  EXPECT_FALSE(shape.self_attention);
  EXPECT_EQ(shape.longest_kv_with_rows, 0);
  EXPECT_EQ(shape.longest_with_grid, 0);
  options[0].weights.mode = WeightsSink::Mode::kTopK;
  options[1].weights.mode = WeightsSink::Mode::kFull;
  shape = ShapeOf(batch);
  EXPECT_EQ(shape.longest_kv_with_rows, 8);
  EXPECT_EQ(shape.longest_with_grid, 0);
  options[0].weights.mode = WeightsSink::Mode::kGrid;
  shape = ShapeOf(batch);
  EXPECT_EQ(shape.longest_kv_with_rows, 1) << "a grid keeps no row of weights";
  EXPECT_EQ(shape.longest_with_grid, 2);
}

TEST(ForwardShapeTest, OfSelfAttentionHasAsManyKeysAsQueries) {
  const std::vector<float> rows(40);
  const std::vector<int64_t> cu_lens = {0, 3, 10};
  const std::vector<SequenceOptions> options(2);
  const MatrixView view = {rows.data(), 10, 4, 4};
  const ForwardShape of_batch = ShapeOf({.query = view,
                                         .key = view,
                                         .value = view,
                                         .cu_q_lens = cu_lens,
                                         .cu_kv_lens = cu_lens,
                                         .sequences = options});
  const ForwardShape plain = SelfAttentionShape(10, 2, 7);
  for (const ForwardShape& shape : {of_batch, plain}) {
    EXPECT_EQ(shape.tokens, 10);
    EXPECT_EQ(shape.kv_tokens, 10);
    EXPECT_EQ(shape.num_sequences, 2);
    EXPECT_EQ(shape.longest, 7);
    EXPECT_EQ(shape.longest_kv, 7);
    EXPECT_TRUE(shape.self_attention);
    EXPECT_EQ(shape.longest_kv_with_rows, 0);
    EXPECT_EQ(shape.longest_with_grid, 0);
  }
}

}  // namespace
}  // namespace headlight
