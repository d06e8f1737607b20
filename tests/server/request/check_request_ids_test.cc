// SPDX-License-Identifier: Apache-2.0
//
// What CheckRequest does with token ids, pooling and models of several layers; check_request_test.cc has the
// rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "server/request/check_request.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/checked_attend.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddFloats;
using testing::AddIds;
using testing::BytesOf;
using testing::CheckAttend;
using ::testing::ElementsAre;
using testing::EncoderConfig;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::LoadTestModel;
using testing::MakeIdsRequest;
using testing::MakeRequest;
using testing::MakeTestModel;
using testing::Segmented;
using ::testing::StartsWith;
using testing::StatusIs;

constexpr int64_t kMaxIdsMessageBytes = 1 << 20;

class CheckRequestIdsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    registry_ = new ModelRegistry;
    ASSERT_THAT(registry_->Add(MakeTestModel("small").loaded), IsOk());
    ASSERT_THAT(registry_->Add(LoadTestModel("encoder", EncoderConfig())), IsOk());
    ModelConfig untyped = EncoderConfig();
    untyped.embedding->num_token_types = 0;
    untyped.embedding->num_positions = 0;
    untyped.block.attention.alibi = true;
    untyped.pooling = {};
    untyped.no_pooling = "nobody said how";
    ASSERT_THAT(registry_->Add(LoadTestModel("untyped", untyped)), IsOk());
    ModelConfig both = EncoderConfig();
    both.pooling = {Pooling::kCls, Pooling::kMean};
    ASSERT_THAT(registry_->Add(LoadTestModel("side-by-side", both)), IsOk());
    ModelConfig stack = EncoderConfig();
    stack.embedding.reset();
    ASSERT_THAT(registry_->Add(LoadTestModel("stack", stack)), IsOk());
    ModelConfig mixed = EncoderConfig();  // 2 heads, and in the middle layer 4
    mixed.other_blocks = {mixed.block};
    mixed.other_blocks[0].attention.num_heads = mixed.other_blocks[0].attention.num_kv_heads = 4;
    mixed.layer_blocks = {0, 1, 0};
    ASSERT_THAT(registry_->Add(LoadTestModel("mixed", mixed)), IsOk());
  }
  static void TearDownTestSuite() {
    delete registry_;
    registry_ = nullptr;
  }

  absl::StatusOr<CheckedRequest> Decode(const v1::AttendRequest& request) {
    bytes_ = request.SerializeAsString();
    return CheckAttend(Segmented(bytes_, 100), {*registry_, kMaxIdsMessageBytes});
  }

  template <typename Message>
  void ExpectInvalid(const v1::AttendRequest& request, const Message& message) {
    EXPECT_THAT(Decode(request), StatusIs(absl::StatusCode::kInvalidArgument, message));
  }

  static ModelRegistry* registry_;
  std::string bytes_;  // of the last request; tasks point at it
};

ModelRegistry* CheckRequestIdsTest::registry_ = nullptr;

v1::AttendRequest DenseIds() { return MakeIdsRequest("encoder", {2, 3}); }
v1::AttendRequest WithTypes(v1::AttendRequest request, const Shape& shape, std::vector<int64_t> types,
                            v1::DType dtype = v1::DTYPE_I32) {
  AddIds(shape, types, *request.mutable_token_types(), request, dtype);
  return request;
}

// --- what is accepted ---

TEST_F(CheckRequestIdsTest, DenseIdsAreFullSequences) {
  for (const v1::DType dtype : {v1::DTYPE_I32, v1::DTYPE_I64}) {
    v1::AttendRequest request;
    request.set_model("encoder");
    AddIds({2, 3}, {1, 2, 3, 4, 5, 49}, *request.mutable_token_ids(), request, dtype);
    const auto decoded = Decode(request);
    ASSERT_THAT(decoded, IsOk());
    const BatchInput& task = decoded->input;
    EXPECT_EQ(task.kind, InputKind::kTokenIds);
    EXPECT_THAT(task.token_ids, ElementsAre(1, 2, 3, 4, 5, 49));
    EXPECT_THAT(task.token_types, IsEmpty());
    EXPECT_THAT(task.q_lens, ElementsAre(3, 3));
    EXPECT_THAT(task.kv_lens, ElementsAre(3, 3));
    EXPECT_EQ(task.cost_tokens(), 6);
    EXPECT_EQ(task.num_outputs(16), 6 * 16);
    EXPECT_THAT(task.weights.layers, IsEmpty());
    EXPECT_EQ(decoded->reply.output, Shape({2, 3, 16}));
    EXPECT_EQ(decoded->reply.padded_len, 0);
  }
}

TEST_F(CheckRequestIdsTest, PaddingIsIgnoredOnTheWayInAndKeptOnTheWayOut) {
  v1::AttendRequest request;
  request.set_model("encoder");
  AddIds({2, 3}, {1, 2, 3, 4, -7, 1'000'000}, *request.mutable_token_ids(), request);
  for (int64_t len : {3, 1}) request.add_seq_lens(len);
  request = WithTypes(request, {2, 3}, {0, 1, 0, 1, 5, -5}, v1::DTYPE_I64);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(decoded->input.token_ids, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(decoded->input.token_types, ElementsAre(0, 1, 0, 1));
  EXPECT_EQ(decoded->reply.output, Shape({2, 3, 16}));
  EXPECT_EQ(decoded->reply.padded_len, 3);
  EXPECT_THAT(decoded->reply.q_lens, ElementsAre(3, 1));
}

TEST_F(CheckRequestIdsTest, RaggedIdsHaveLengths) {
  v1::AttendRequest request = MakeIdsRequest("encoder", {6});
  EXPECT_THAT(Decode(request)->input.q_lens, ElementsAre(6));
  for (int64_t len : {1, 3, 2}) request.add_seq_lens(len);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(decoded->input.q_lens, ElementsAre(1, 3, 2));
  EXPECT_EQ(decoded->reply.output, Shape({6, 16}));
}

TEST_F(CheckRequestIdsTest, PooledOutputHasARowForEachSequence) {
  v1::AttendRequest request = DenseIds();
  for (int64_t len : {3, 1}) request.add_seq_lens(len);
  for (const auto& [mode, pooling] :
       {std::pair(v1::POOLING_MODE_MODEL, Pooling::kMean), std::pair(v1::POOLING_MODE_CLS, Pooling::kCls),
        std::pair(v1::POOLING_MODE_MEAN, Pooling::kMean), std::pair(v1::POOLING_MODE_MAX, Pooling::kMax),
        std::pair(v1::POOLING_MODE_MEAN_SQRT_LEN, Pooling::kMeanSqrtLen),
        std::pair(v1::POOLING_MODE_WEIGHTED_MEAN, Pooling::kWeightedMean),
        std::pair(v1::POOLING_MODE_LAST, Pooling::kLast)}) {
    request.set_pooling(mode);
    const auto decoded = Decode(request);
    ASSERT_THAT(decoded, IsOk());
    EXPECT_THAT(decoded->input.pooling, ElementsAre(pooling));
    EXPECT_EQ(decoded->input.num_outputs(16), 32);
    EXPECT_EQ(decoded->reply.output, Shape({2, 16}));
    EXPECT_EQ(decoded->reply.padded_len, 0);
  }
}

TEST_F(CheckRequestIdsTest, PooledVectorsHaveTheDimensionsThatAreAskedFor) {
  v1::AttendRequest request = MakeIdsRequest("side-by-side", {2, 3});
  request.set_pooling(v1::POOLING_MODE_MODEL);
  EXPECT_EQ(Decode(request)->reply.output, Shape({2, 32}));
  request.set_dimensions(20);
  EXPECT_EQ(Decode(request)->reply.output, Shape({2, 20}));
  EXPECT_EQ(Decode(request)->input.num_outputs(16), 40);
  request.set_dimensions(33);
  ExpectInvalid(request, "dimensions: got 33, wanted 0..32");
  request.set_pooling(v1::POOLING_MODE_CLS);
  ExpectInvalid(request, "dimensions: got 33, wanted 0..16");
  request.set_dimensions(-1);
  ExpectInvalid(request, "dimensions: got -1, wanted 0..16");
  request.clear_pooling();
  request.set_dimensions(4);
  ExpectInvalid(request, "dimensions: got 4, wanted 0 without pooling");
}

TEST_F(CheckRequestIdsTest, WithoutAPoolingOfItsOwnAModelSaysWhy) {
  v1::AttendRequest request = MakeIdsRequest("untyped", {2, 3});
  request.set_pooling(v1::POOLING_MODE_MODEL);
  ExpectInvalid(
      request,
      "pooling: got MODEL, but the model has no pooling of its own: nobody said how; wanted a mode by "
      "name, or none");
  request.set_pooling(v1::POOLING_MODE_LAST);
  EXPECT_THAT(Decode(request), IsOk());
}

TEST_F(CheckRequestIdsTest, MasksAndWeightsGoWithIds) {
  v1::AttendRequest request = DenseIds();
  request.set_causal(true);
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  request.mutable_weights()->set_layer(1);
  request.clear_payloads();
  AddFloats({1, 1, 3, 3}, 4, *request.mutable_mask(), request);  // its payload comes before that of the ids
  request.clear_token_ids();
  AddIds({2, 3}, {1, 2, 3, 4, 5, 6}, *request.mutable_token_ids(), request);
  request = WithTypes(request, {2, 3}, {0, 0, 1, 1, 1, 1});
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(decoded->input.weights.layers, ElementsAre(1));
  EXPECT_EQ(decoded->input.mask.bytes.size_bytes(), 3 * 3 * 4);
  EXPECT_THAT(decoded->input.token_ids, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(decoded->input.token_types, ElementsAre(0, 0, 1, 1, 1, 1));
  EXPECT_EQ(decoded->reply.weights, Shape({2, 2, 3, 3}));
}

TEST_F(CheckRequestIdsTest, SeveralLayersAreADimensionOfTheReply) {
  v1::AttendRequest request = DenseIds();
  v1::WeightsOptions& weights = *request.mutable_weights();
  weights.set_mode(v1::WEIGHTS_MODE_SUMMARY);
  for (const int64_t layer : {1, 0}) weights.add_layers(layer);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(decoded->input.weights.layers, ElementsAre(1, 0));
  EXPECT_EQ(decoded->reply.weights, Shape({2, 2, 2, 6}));
  EXPECT_EQ(decoded->reply.received_mass, Shape({2, 2, 2, 3}));
  EXPECT_EQ(decoded->input.weights.num_weights, 2 * 2 * 2 * 6);
}

TEST_F(CheckRequestIdsTest, LayersReportAsManyHeadsEach) {
  v1::AttendRequest request = MakeIdsRequest("mixed", {2, 3});
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_GRID);
  for (const int64_t layer : {0, 1}) request.mutable_weights()->add_layers(layer);
  ExpectInvalid(request,
                "weights.layers[1]: got 1 with 4 heads beside 0 with 2, wanted as many, or weights.heads");
  request.mutable_weights()->add_heads(1);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->reply.weights, Shape({2, 2, 1, 3, 3}));
}

TEST_F(CheckRequestIdsTest, AMeanIsOfAsManyHeadsAsEachLayerHas) {
  v1::AttendRequest request = MakeIdsRequest("mixed", {2, 3});
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_MEAN);
  for (const int64_t layer : {0, 1}) request.mutable_weights()->add_layers(layer);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->reply.weights, Shape({2, 2, 3, 3}));
  request.mutable_weights()->add_heads(3);
  ExpectInvalid(request, "weights.heads[0]: got 3, wanted 0 to 1");
}

TEST_F(CheckRequestIdsTest, WeightsHaveTheHeadsOfTheirLayer) {
  v1::AttendRequest request = MakeIdsRequest("mixed", {2, 3});
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  request.mutable_weights()->add_heads(3);
  ExpectInvalid(request, "weights.heads[0]: got 3, wanted 0 to 1");
  request.mutable_weights()->set_layer(1);
  EXPECT_THAT(Decode(request), IsOk());
  request.mutable_weights()->clear_heads();
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->reply.weights, Shape({2, 4, 3, 3}));
}

TEST_F(CheckRequestIdsTest, OneMaskIsForAllHeadsWhereLayersDiffer) {
  v1::AttendRequest request = MakeIdsRequest("mixed", {2, 3});
  request.clear_payloads();
  request.clear_token_ids();
  AddFloats({1, 2, 3, 3}, 4, *request.mutable_mask(), request);
  AddIds({2, 3}, {1, 2, 3, 4, 5, 6}, *request.mutable_token_ids(), request);
  ExpectInvalid(
      request,
      "mask.shape: got [1, 2, 3, 3], wanted [2 or 1, 1 or 1, 3, 3] (batch, num_heads, q_len, kv_len)");
}

TEST_F(CheckRequestIdsTest, AStackTakesEmbeddingsAndPoolsThem) {
  v1::AttendRequest request = MakeRequest("stack", {2, 3, 16});
  request.set_pooling(v1::POOLING_MODE_CLS);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->input.kind, InputKind::kSelf);
  EXPECT_EQ(decoded->reply.output, Shape({2, 16}));
}

TEST_F(CheckRequestIdsTest, WithoutAPositionTableSequencesMayBeLong) {
  EXPECT_THAT(Decode(MakeIdsRequest("untyped", {4000})), IsOk());
}

// --- what is refused ---

TEST_F(CheckRequestIdsTest, EachModelTakesWhatItBeginsWith) {
  ExpectInvalid(MakeRequest("encoder", {2, 3, 16}),
                "token_ids: got none, wanted [batch, seq_len] or [tokens]");
  ExpectInvalid(MakeIdsRequest("small", {2, 3}),
                "token_ids: got some, wanted none: the model begins at embeddings, in query");
  ExpectInvalid(WithTypes(MakeRequest("small", {2, 3, 16}), {2, 3}, {0, 0, 0, 0, 0, 0}),
                "token_types: got some, wanted none: the model begins at embeddings, in query");
  v1::AttendRequest both = DenseIds();
  AddFloats({2, 3, 16}, 1, *both.mutable_query(), both);
  ExpectInvalid(both, "query: got one, wanted none: the model begins at token_ids");
  v1::AttendRequest key = DenseIds();
  AddFloats({2, 3, 16}, 1, *key.mutable_key(), key);
  ExpectInvalid(key, "key: got one, wanted none: the model begins at token_ids");
  v1::AttendRequest value = DenseIds();
  AddFloats({2, 3, 16}, 1, *value.mutable_value(), value);
  ExpectInvalid(value, "value: got one, wanted none: the model begins at token_ids");
  v1::AttendRequest kv_seq_lens = DenseIds();
  kv_seq_lens.add_kv_seq_lens(3);
  ExpectInvalid(kv_seq_lens, "kv_seq_lens: got 1 without key, wanted none");
}

TEST_F(CheckRequestIdsTest, KeysBelongToSingleBareLayers) {
  v1::AttendRequest request = MakeRequest("stack", {2, 3, 16});
  AddFloats({2, 3, 16}, 1, *request.mutable_key(), request);
  ExpectInvalid(request, "key: got one, wanted none: the model has 3 layers that attend to their own input");
}

TEST_F(CheckRequestIdsTest, IdsAreWholeNumbersOfTheVocabulary) {
  v1::AttendRequest request;
  request.set_model("encoder");
  AddIds({2, 2}, {1, 2, 3, 50}, *request.mutable_token_ids(), request, v1::DTYPE_I64);
  ExpectInvalid(request, "token_ids[1, 1]: got 50, wanted 0 to 49");
  v1::AttendRequest floats = MakeRequest("encoder", {2, 3});
  floats.mutable_token_ids()->Swap(floats.mutable_query());
  floats.clear_query();
  ExpectInvalid(floats, "token_ids.dtype: got DTYPE_F32, wanted DTYPE_I32 or DTYPE_I64");
}

TEST_F(CheckRequestIdsTest, ShapesAndBytesOfIdsMustAgree) {
  ExpectInvalid(MakeIdsRequest("encoder", {2, 3, 1}),
                "token_ids.shape: got 3 dimensions, wanted [batch, seq_len] or [tokens]");
  v1::AttendRequest empty = DenseIds();
  empty.mutable_token_ids()->set_shape(1, 0);
  ExpectInvalid(empty, "token_ids.shape: got [2, 0], wanted every dimension to be at least 1");
  v1::AttendRequest huge = DenseIds();
  huge.mutable_token_ids()->set_shape(0, int64_t{1} << 62);
  ExpectInvalid(huge, "token_ids.shape: [4611686018427387904, 3] is more than 2^63 bytes");
  v1::AttendRequest cut = DenseIds();
  cut.mutable_payloads(0)->pop_back();
  ExpectInvalid(cut, "payloads: got 23 bytes for token_ids, wanted 24 for DTYPE_I32 [2, 3]");
  v1::AttendRequest none = DenseIds();
  none.clear_payloads();
  ExpectInvalid(none, "payloads: got 0, wanted 1 (token_ids)");
  v1::AttendRequest lens = MakeIdsRequest("encoder", {6});
  lens.add_seq_lens(5);
  ExpectInvalid(lens, "seq_lens: they sum to 5, wanted the 6 rows of token_ids");
}

TEST_F(CheckRequestIdsTest, SequencesEndWhereThePositionsDo) {
  EXPECT_THAT(Decode(MakeIdsRequest("encoder", {2, 20})), IsOk());
  ExpectInvalid(MakeIdsRequest("encoder", {21}),
                "token_ids: got 21 tokens in sequence 0, wanted at most the model's max_seq_len 20");
  v1::AttendRequest padded = MakeIdsRequest("encoder", {2, 30});
  for (int64_t len : {20, 21}) padded.add_seq_lens(len);
  ExpectInvalid(padded, "token_ids: got 21 tokens in sequence 1, wanted at most the model's max_seq_len 20");
  padded.set_seq_lens(1, 1);
  EXPECT_THAT(Decode(padded), IsOk());
}

TEST_F(CheckRequestIdsTest, TypesFitTheIdsAndTheModel) {
  ExpectInvalid(WithTypes(DenseIds(), {2, 3}, {0, 1, 0, 2, 0, 0}), "token_types[1, 0]: got 2, wanted 0 to 1");
  ExpectInvalid(WithTypes(DenseIds(), {3, 2}, {0, 0, 0, 0, 0, 0}),
                "token_types.shape: got [3, 2], wanted [2, 3], the shape of token_ids");
  ExpectInvalid(WithTypes(DenseIds(), {6}, {0, 0, 0, 0, 0, 0}),
                "token_types.shape: got 1 dimensions, wanted [2, 3], the shape of token_ids");
  ExpectInvalid(WithTypes(MakeIdsRequest("untyped", {1}), {1}, {0}),
                "token_types: got some, wanted none: the model knows no types");
}

TEST_F(CheckRequestIdsTest, PoolingIsAKnownMode) {
  v1::AttendRequest request = DenseIds();
  request.set_pooling(static_cast<v1::PoolingMode>(17));
  ExpectInvalid(request, HasSubstr("pooling: got 17, which is no PoolingMode; wanted UNSPECIFIED, MODEL"));
}

TEST_F(CheckRequestIdsTest, ALayerIsOneOfTheModels) {
  v1::AttendRequest request = DenseIds();
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_MEAN);
  request.mutable_weights()->set_layer(3);
  ExpectInvalid(request, "weights.layer: got 3, wanted 0 to 2");
}

// What pooled ids make of memory is for the memory budget to refuse, not for the size of a message.
TEST_F(CheckRequestIdsTest, HiddenStatesMustFitIntoAMessageUnlessTheyArePooled) {
  const int64_t tokens = kMaxIdsMessageBytes / (16 * 4) + 1;
  v1::AttendRequest request = MakeIdsRequest("untyped", {tokens});
  ExpectInvalid(request, StartsWith("the reply would be too large: output [16385, 16] 1048640 bytes"));
  request.set_pooling(v1::POOLING_MODE_MEAN);
  EXPECT_THAT(Decode(request), IsOk());
  v1::AttendRequest padded = MakeIdsRequest("untyped", {1, tokens});
  padded.add_seq_lens(5);
  padded.set_pooling(v1::POOLING_MODE_MEAN);
  EXPECT_THAT(Decode(padded), IsOk());
}

}  // namespace
}  // namespace headlight
