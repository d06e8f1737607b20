// SPDX-License-Identifier: Apache-2.0
#include "client/cli/inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <variant>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::ElementsAre;

constexpr auto kBadInput = absl::StatusCode::kInvalidArgument;
constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();

v1::Model MakeModel(int64_t embed_dim, int64_t kdim, int64_t vdim) {
  v1::Model model;
  model.set_embed_dim(embed_dim);
  model.set_kdim(kdim);
  model.set_vdim(vdim);
  return model;
}

TEST(InputsTest, AShapeMakesADenseQuery) {
  Inputs inputs;
  ASSERT_THAT(AddRandomInputs({.shape = {2, 3}}, MakeModel(4, 4, 4), kNoLimit, inputs), IsOk());
  EXPECT_THAT(inputs.query->shape, ElementsAre(2, 3, 4));
  EXPECT_EQ(inputs.query->values.size(), 24u);
  EXPECT_FALSE(inputs.key || inputs.value || inputs.mask);
}

TEST(InputsTest, LengthsAloneMakeARaggedQuery) {
  Inputs inputs;
  const RequestFlags flags{.seq_lens = {5, 16, 9}};
  ASSERT_THAT(AddRandomInputs(flags, MakeModel(4, 4, 4), kNoLimit, inputs), IsOk());
  EXPECT_THAT(inputs.query->shape, ElementsAre(30, 4));
  EXPECT_THAT(inputs.Call(flags).seq_lens, ElementsAre(5, 16, 9));
}

TEST(InputsTest, AShapeWithLengthsIsDense) {
  Inputs inputs;
  const RequestFlags flags{.shape = {2, 8}, .seq_lens = {5, 8}};
  ASSERT_THAT(AddRandomInputs(flags, MakeModel(4, 4, 4), kNoLimit, inputs), IsOk());
  EXPECT_THAT(inputs.query->shape, ElementsAre(2, 8, 4));
  EXPECT_THAT(inputs.Call(flags).seq_lens, ElementsAre(5, 8));
}

TEST(InputsTest, KeysHaveTheModelsKeyWidthAndValuesOnlyIfTheyDiffer) {
  Inputs shared;
  ASSERT_THAT(AddRandomInputs({.shape = {1, 2}, .kv_shape = {1, 5}}, MakeModel(4, 3, 3), kNoLimit, shared),
              IsOk());
  EXPECT_THAT(shared.key->shape, ElementsAre(1, 5, 3));
  EXPECT_FALSE(shared.value);

  Inputs ragged;
  ASSERT_THAT(
      AddRandomInputs({.seq_lens = {1, 1}, .kv_seq_lens = {2, 5}}, MakeModel(4, 3, 2), kNoLimit, ragged),
      IsOk());
  EXPECT_THAT(ragged.key->shape, ElementsAre(7, 3));
  EXPECT_THAT(ragged.value->shape, ElementsAre(7, 2));
}

TEST(InputsTest, TheSeedDecidesTheValues) {
  Inputs one, same, other;
  ASSERT_THAT(AddRandomInputs({.shape = {1, 2}, .seed = 1}, MakeModel(4, 4, 4), kNoLimit, one), IsOk());
  ASSERT_THAT(AddRandomInputs({.shape = {1, 2}, .seed = 1}, MakeModel(4, 4, 4), kNoLimit, same), IsOk());
  ASSERT_THAT(AddRandomInputs({.shape = {1, 2}, .seed = 2}, MakeModel(4, 4, 4), kNoLimit, other), IsOk());
  EXPECT_EQ(one.query->values, same.query->values);
  EXPECT_NE(one.query->values, other.query->values);
}

v1::Model IdsModel(int64_t vocab_size) {
  v1::Model model = MakeModel(4, 4, 4);
  model.set_takes_token_ids(true);
  model.set_vocab_size(vocab_size);
  return model;
}

std::vector<int32_t> Values(const Inputs& inputs) {
  return std::get<std::vector<int32_t>>(inputs.token_ids->values);
}

TEST(InputsTest, AModelThatBeginsAtIdsGetsIdsOfItsVocabulary) {
  Inputs dense;
  const RequestFlags flags{.shape = {2, 300}, .pooling = v1::POOLING_MODE_CLS};
  ASSERT_THAT(AddRandomInputs(flags, IdsModel(7), kNoLimit, dense), IsOk());
  EXPECT_FALSE(dense.query || dense.token_types);
  EXPECT_THAT(dense.token_ids->shape, ElementsAre(2, 300));
  ASSERT_EQ(Values(dense).size(), 600u);
  EXPECT_THAT(Values(dense), ::testing::Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(7))));
  for (int32_t id = 0; id < 7; ++id) EXPECT_THAT(Values(dense), ::testing::Contains(id));
  EXPECT_THAT(dense.Call(flags).token_ids->shape, ElementsAre(2, 300));
  EXPECT_EQ(dense.Call(flags).pooling, v1::POOLING_MODE_CLS);
  EXPECT_FALSE(dense.Call(flags).query);

  Inputs ragged;
  ASSERT_THAT(AddRandomInputs({.seq_lens = {5, 16, 9}}, IdsModel(7), kNoLimit, ragged), IsOk());
  EXPECT_THAT(ragged.token_ids->shape, ElementsAre(30));
}

TEST(InputsTest, AVocabularyThatIsNoneIsTheServersFault) {
  Inputs inputs;
  for (const int64_t vocab_size : {int64_t{0}, int64_t{-5}, std::numeric_limits<int64_t>::max()}) {
    EXPECT_THAT(AddRandomInputs({.shape = {1, 2}}, IdsModel(vocab_size), kNoLimit, inputs),
                StatusIs(absl::StatusCode::kInternal,
                         ::testing::StartsWith("the server says that the model's vocab_size is ")));
  }
}

TEST(InputsTest, WhatCannotBeSentIsNotMade) {
  Inputs inputs;
  EXPECT_THAT(AddRandomInputs({.shape = {1, 16}}, MakeModel(4, 4, 4), 255, inputs),
              StatusIs(kBadInput,
                       "query: shape [1, 16, 4] of f32 is over the limit of 255 bytes a message "
                       "(--max-message-bytes)"));
  const int64_t huge = std::numeric_limits<int32_t>::max();
  EXPECT_THAT(AddRandomInputs({.shape = {2, 16}}, IdsModel(5), 127, inputs),
              StatusIs(kBadInput,
                       "token_ids: shape [2, 16] of i32 is over the limit of 127 bytes a message "
                       "(--max-message-bytes)"));
  EXPECT_THAT(AddRandomInputs({.shape = {huge, huge}}, MakeModel(768, 4, 4), kNoLimit, inputs),
              StatusIs(kBadInput,
                       ::testing::StartsWith("query: shape [2147483647, 2147483647, 768] of f32 is over")));
}

TEST(InputsTest, ContradictionsAreRefused) {
  EXPECT_THAT(CheckInputFlags({}, {}),
              StatusIs(kBadInput, "nothing says what the query is, wanted --shape or --seq-lens"));
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}}, {.query = "q.npy"}),
              StatusIs(kBadInput, "--input and --shape both say what the query is"));
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}, .kv_shape = {1, 1}}, {.key = "k.npy"}),
              StatusIs(kBadInput, "--key and --kv-shape both say what the key is"));
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}}, {.value = "v.npy"}),
              StatusIs(kBadInput, "--value wants --key: values of their own belong to keys of their own"));
  const auto want_each_other = StatusIs(kBadInput, "--weights top-k and --top-k want each other");
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}, .weights = v1::WEIGHTS_MODE_TOP_K}, {}), want_each_other);
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}, .weights = v1::WEIGHTS_MODE_FULL, .top_k = 3}, {}),
              want_each_other);
  const auto want_weights = StatusIs(kBadInput, "--heads and --queries want --weights: they say which");
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}, .heads = {0}}, {}), want_weights);
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}, .queries = {0, 1}}, {}), want_weights);
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}, .layer = 0}, {}),
              StatusIs(kBadInput, "--layer wants --weights: it says whose"));
  EXPECT_THAT(CheckInputFlags({}, {.query = "q.npy", .token_ids = "i.npy"}),
              StatusIs(kBadInput, "--input and --ids both say what the input is"));
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}}, {.token_ids = "i.npy"}),
              StatusIs(kBadInput, "--ids and --shape both say what the input is"));
  EXPECT_THAT(CheckInputFlags({.shape = {1, 1}}, {.token_types = "t.npy"}),
              StatusIs(kBadInput, "--token-types wants --ids: they are the types of these"));
  EXPECT_THAT(CheckInputFlags({}, {.token_ids = "i.npy"}), IsOk());
  EXPECT_THAT(CheckInputFlags({.seq_lens = {1}}, {.query = "q.npy", .key = "k.npy"}), IsOk());
}

TEST(InputsTest, TokensAreThoseOfTheSequences) {
  EXPECT_EQ(NumTokens({2, 16, 768}, {}), 32);
  EXPECT_EQ(NumTokens({2, 16, 768}, {5, 16}), 21);
  EXPECT_EQ(NumTokens({30, 768}, {5, 16, 9}), 30);
}

}  // namespace
}  // namespace headlight::client
