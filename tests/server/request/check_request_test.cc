// SPDX-License-Identifier: Apache-2.0
#include "server/request/check_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/attend_fixtures.h"
#include "tests/server/checked_attend.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddFloats;
using testing::CheckAttend;
using testing::CrossConfig;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRequest;
using testing::MakeTestModel;
using testing::Segmented;
using testing::StatusIs;

constexpr int64_t kMaxMessageBytes = 1 << 20;

class CheckRequestTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    registry_ = new ModelRegistry;
    ASSERT_THAT(registry_->Add(MakeTestModel("small").loaded), IsOk());
    ASSERT_THAT(registry_->Add(MakeTestModel("cross", CrossConfig()).loaded), IsOk());
  }
  static void TearDownTestSuite() {
    delete registry_;
    registry_ = nullptr;
  }

  absl::StatusOr<CheckedRequest> Decode(const v1::AttendRequest& request) {
    bytes_ = request.SerializeAsString();
    return CheckAttend(Segmented(bytes_, 100), {*registry_, kMaxMessageBytes});
  }

  void ExpectInvalid(const v1::AttendRequest& request, const std::string& message) {
    EXPECT_THAT(Decode(request), StatusIs(absl::StatusCode::kInvalidArgument, message));
  }

  static ModelRegistry* registry_;
  std::string bytes_;  // of the last request; tasks point at it
};

ModelRegistry* CheckRequestTest::registry_ = nullptr;

v1::AttendRequest Dense() { return MakeRequest("small", {2, 3, 16}); }
v1::AttendRequest Ragged() {
  v1::AttendRequest request = MakeRequest("small", {6, 16});
  for (int64_t len : {1, 3, 2}) request.add_seq_lens(len);
  return request;
}
v1::AttendRequest Cross() {
  v1::AttendRequest request = MakeRequest("cross", {2, 3, 16});
  AddFloats({2, 5, 12}, 2, *request.mutable_key(), request);
  AddFloats({2, 5, 8}, 3, *request.mutable_value(), request);
  return request;
}
v1::AttendRequest RaggedCross() {
  v1::AttendRequest request = MakeRequest("cross", {6, 16});
  AddFloats({7, 12}, 2, *request.mutable_key(), request);
  AddFloats({7, 8}, 3, *request.mutable_value(), request);
  for (int64_t len : {4, 2}) request.add_seq_lens(len);
  for (int64_t len : {2, 5}) request.add_kv_seq_lens(len);
  return request;
}
v1::AttendRequest WithMask(v1::AttendRequest request, const Shape& shape) {
  AddFloats(shape, 4, *request.mutable_mask(), request);
  return request;
}

// --- what is accepted ---

TEST_F(CheckRequestTest, ADenseRequestIsFullSequences) {
  const auto decoded = Decode(Dense());
  ASSERT_THAT(decoded, IsOk());
  const BatchInput& task = decoded->input;
  EXPECT_EQ(task.model->name, "small");
  EXPECT_EQ(task.kind, InputKind::kSelf);
  EXPECT_THAT(task.q_lens, ElementsAre(3, 3));
  EXPECT_THAT(task.kv_lens, ElementsAre(3, 3));
  EXPECT_EQ(task.q_tokens, 6);
  EXPECT_EQ(task.cost_tokens(), 6);
  EXPECT_EQ(task.query.padded_len, 0);
  EXPECT_EQ(task.query.bytes.size_bytes(), 2 * 3 * 16 * 4);
  EXPECT_EQ(decoded->reply.output, Shape({2, 3, 16}));
  EXPECT_TRUE(decoded->reply.weights.empty());
}

TEST_F(CheckRequestTest, ADenseRequestWithLengthsIsPadded) {
  v1::AttendRequest request = Dense();
  request.add_seq_lens(3);
  request.add_seq_lens(1);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(decoded->input.q_lens, ElementsAre(3, 1));
  EXPECT_EQ(decoded->input.q_tokens, 4);
  EXPECT_EQ(decoded->input.query.padded_len, 3);
  EXPECT_EQ(decoded->reply.padded_len, 3);
}

TEST_F(CheckRequestTest, FullLengthsNeedNoPadding) {
  v1::AttendRequest request = Dense();
  request.add_seq_lens(3);
  request.add_seq_lens(3);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->input.query.padded_len, 0);
}

TEST_F(CheckRequestTest, ARaggedRequestHasTheLengthsItSays) {
  const auto decoded = Decode(Ragged());
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(decoded->input.q_lens, ElementsAre(1, 3, 2));
  EXPECT_EQ(decoded->reply.output, Shape({6, 16}));
}

TEST_F(CheckRequestTest, ARaggedRequestWithoutLengthsIsOneSequence) {
  const auto decoded = Decode(MakeRequest("small", {6, 16}));
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(decoded->input.q_lens, ElementsAre(6));
}

TEST_F(CheckRequestTest, CrossAttentionTakesKeysAndValues) {
  const auto decoded = Decode(Cross());
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->input.kind, InputKind::kKeyAndValue);
  EXPECT_THAT(decoded->input.kv_lens, ElementsAre(5, 5));
  EXPECT_EQ(decoded->input.cost_tokens(), 6 + 10);
}

TEST_F(CheckRequestTest, RaggedCrossAttentionTakesTwoListsOfLengths) {
  const auto decoded = Decode(RaggedCross());
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(decoded->input.q_lens, ElementsAre(4, 2));
  EXPECT_THAT(decoded->input.kv_lens, ElementsAre(2, 5));
}

TEST_F(CheckRequestTest, AKeyWithoutValueServesForBoth) {
  v1::AttendRequest request = Dense();
  AddFloats({2, 5, 16}, 2, *request.mutable_key(), request);
  request.add_kv_seq_lens(5);
  request.add_kv_seq_lens(2);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->input.kind, InputKind::kSharedKey);
  EXPECT_THAT(decoded->input.kv_lens, ElementsAre(5, 2));
  EXPECT_EQ(decoded->input.key.padded_len, 5);
}

TEST_F(CheckRequestTest, WeightsHavePaddedLengthsWhenDenseAndLongestOnesWhenRagged) {
  v1::AttendRequest request = Cross();
  request.add_seq_lens(2);
  request.add_seq_lens(1);
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->reply.weights, Shape({2, 2, 3, 5}));
  EXPECT_EQ(decoded->input.weights.num_weights, 2 * 2 * 3 * 5);

  request = Ragged();
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_MEAN);
  decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->reply.weights, Shape({3, 3, 3}));
}

TEST_F(CheckRequestTest, EachTensorHasATypeOfItsOwn) {
  v1::AttendRequest request = MakeRequest("cross", {2, 3, 16}, 1, v1::DTYPE_BF16);
  AddFloats({2, 5, 12}, 2, *request.mutable_key(), request, v1::DTYPE_F16);
  AddFloats({2, 5, 8}, 3, *request.mutable_value(), request, v1::DTYPE_F32);
  AddFloats({1, 1, 3, 5}, 4, *request.mutable_mask(), request, v1::DTYPE_F16);
  request.set_output_dtype(v1::DTYPE_BF16);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->input.query.dtype, DType::kBf16);
  EXPECT_EQ(decoded->input.key.dtype, DType::kF16);
  EXPECT_EQ(decoded->input.value.dtype, DType::kF32);
  EXPECT_EQ(decoded->input.mask.dtype, DType::kF16);
  EXPECT_EQ(decoded->input.output_dtype, DType::kBf16);
  EXPECT_EQ(decoded->reply.dtype, DType::kBf16);
}

TEST_F(CheckRequestTest, WindowsBecomeTheSequencesVisibility) {
  v1::AttendRequest request = Dense();
  request.set_window_left(0);
  auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->input.visibility.window_left, 0);
  EXPECT_EQ(decoded->input.visibility.window_right, std::nullopt);
  request.clear_window_left();
  request.set_window_right(std::numeric_limits<int64_t>::max());
  decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->input.visibility.window_left, std::nullopt);
  EXPECT_EQ(decoded->input.visibility.window_right, std::numeric_limits<int64_t>::max());
}

TEST_F(CheckRequestTest, TopKHasWeightsAndKeysOfOneShape) {
  v1::AttendRequest request = Ragged();
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_TOP_K);
  request.mutable_weights()->set_top_k(1024);
  request.mutable_weights()->add_heads(1);
  request.mutable_weights()->set_query_begin(1);
  request.mutable_weights()->set_query_end(3);
  request.set_output_dtype(v1::DTYPE_F16);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->reply.weights, Shape({3, 1, 2, 1024}));
  EXPECT_EQ(decoded->reply.weights_keys, Shape({3, 1, 2, 1024}));
  EXPECT_TRUE(decoded->reply.received_mass.empty());
  const WeightsRequest& weights = decoded->input.weights;
  EXPECT_EQ(weights.mode, WeightsSink::Mode::kTopK);
  EXPECT_THAT(weights.heads, ElementsAre(1));
  EXPECT_EQ(weights.query_begin, 1);
  EXPECT_EQ(weights.query_end, 3);
  EXPECT_EQ(weights.num_weights, 3 * 2 * 1024);
  EXPECT_EQ(weights.num_keys, 3 * 2 * 1024);
  EXPECT_EQ(weights.num_received, 0);
}

TEST_F(CheckRequestTest, ASummaryHasSixStatisticsAndWhatEachKeyReceives) {
  v1::AttendRequest request = Cross();
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_SUMMARY);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->reply.weights, Shape({2, 2, 6}));
  EXPECT_EQ(decoded->reply.received_mass, Shape({2, 2, 5}));
  EXPECT_TRUE(decoded->reply.weights_keys.empty());
  EXPECT_EQ(decoded->input.weights.num_weights, 24);
  EXPECT_EQ(decoded->input.weights.num_received, 20);
}

TEST_F(CheckRequestTest, AGridHasAsManyCellsAsThereAreQueriesAndKeysAtMost) {
  v1::AttendRequest request = Cross();
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_GRID);
  EXPECT_EQ(Decode(request)->reply.weights, Shape({2, 2, 3, 5}));
  request.mutable_weights()->set_grid_rows(2);
  request.mutable_weights()->set_grid_cols(4);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->reply.weights, Shape({2, 2, 2, 4}));
  EXPECT_TRUE(decoded->reply.weights_keys.empty());
  EXPECT_TRUE(decoded->reply.received_mass.empty());
  EXPECT_EQ(decoded->input.weights.num_weights, 2 * 2 * 2 * 4);
  request.mutable_weights()->set_grid_rows(65);
  EXPECT_THAT(Decode(request), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("weights.grid_rows: got 65, wanted 1 to 64")));
}

TEST_F(CheckRequestTest, HeadsAndQueriesNarrowEveryMode) {
  v1::AttendRequest request = Dense();
  request.mutable_weights()->add_heads(1);
  request.mutable_weights()->set_query_end(2);
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  EXPECT_EQ(Decode(request)->reply.weights, Shape({2, 1, 2, 3}));
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_MEAN);
  EXPECT_EQ(Decode(request)->reply.weights, Shape({2, 2, 3}));
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_SUMMARY);
  EXPECT_EQ(Decode(request)->reply.weights, Shape({2, 1, 6}));
}

TEST_F(CheckRequestTest, MasksMayShareBatchAndHeads) {
  for (const Shape& shape : std::vector<Shape>{{1, 1, 3, 3}, {2, 1, 3, 3}, {1, 2, 3, 3}, {2, 2, 3, 3}}) {
    EXPECT_THAT(Decode(WithMask(Dense(), shape)), IsOk());
  }
}

TEST_F(CheckRequestTest, NamingWhatIsTheDefaultChangesNothing) {
  v1::AttendRequest request = Dense();
  request.set_model_version("1");
  request.set_output_dtype(v1::DTYPE_F32);
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_NONE);
  request.set_request_id(std::string(128, 'r'));
  request.set_causal(true);
  const auto decoded = Decode(request);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_TRUE(decoded->input.visibility.causal);
  EXPECT_EQ(decoded->reply.request_id, std::string(128, 'r'));
}

// --- names ---

TEST_F(CheckRequestTest, RefusesAMissingModel) {
  v1::AttendRequest request = Dense();
  request.clear_model();
  ExpectInvalid(request, "model: got none, wanted a model's name");
}

TEST_F(CheckRequestTest, AnUnknownModelOrVersionIsNotFound) {
  v1::AttendRequest request = Dense();
  request.set_model("large");
  EXPECT_THAT(Decode(request),
              StatusIs(absl::StatusCode::kNotFound, "model: no model \"large\"; there is cross, small"));
  request.set_model("small");
  request.set_model_version("2");
  EXPECT_THAT(Decode(request), StatusIs(absl::StatusCode::kNotFound,
                                        "model_version: model \"small\" has no version \"2\"; there is 1"));
}

TEST_F(CheckRequestTest, RefusesALongRequestId) {
  v1::AttendRequest request = Dense();
  request.set_request_id(std::string(129, 'r'));
  ExpectInvalid(request, "request_id: got 129 bytes, wanted at most 128");
}

// --- wire form ---

TEST_F(CheckRequestTest, RefusesATruncatedMessage) {
  const std::string bytes = Dense().SerializeAsString();
  const std::string cut = bytes.substr(0, bytes.size() - 1);
  EXPECT_THAT(testing::CheckAttend(Segmented(cut, 100), {*registry_, kMaxMessageBytes}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "AttendRequest: truncated at byte " + std::to_string(cut.size())));
}

TEST_F(CheckRequestTest, RefusesWhatProtobufCannotRead) {
  const std::string truncated_inside_query = "\x22\x02\x12\x05";
  EXPECT_THAT(testing::CheckAttend(Segmented(truncated_inside_query, 100), {*registry_, kMaxMessageBytes}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("AttendRequest: protobuf cannot read its fields")));
}

TEST_F(CheckRequestTest, ARepeatedSingularFieldCountsOnceAndTheLastOneWins) {
  v1::AttendRequest other;
  other.set_model("small");
  v1::AttendRequest first = Dense();
  first.set_model("large");
  v1::AttendRequest merged;
  ASSERT_TRUE(merged.ParseFromString(first.SerializeAsString() + other.SerializeAsString()));
  EXPECT_THAT(Decode(merged), IsOk());
}

TEST_F(CheckRequestTest, RefusesAQueryThatIsSentTwice) {
  v1::AttendRequest query_only;
  *query_only.mutable_query() = Dense().query();
  v1::AttendRequest merged;
  ASSERT_TRUE(merged.ParseFromString(Dense().SerializeAsString() + query_only.SerializeAsString()));
  ExpectInvalid(merged, "query.shape: got 6 dimensions, wanted [batch, seq_len, 16] or [tokens, 16]");
}

// --- tensors ---

TEST_F(CheckRequestTest, RefusesAMissingQuery) {
  v1::AttendRequest request = Dense();
  request.clear_query();
  ExpectInvalid(request, "query: got none, wanted [batch, seq_len, 16] or [tokens, 16]");
}

TEST_F(CheckRequestTest, RefusesAWrongNumberOfPayloads) {
  v1::AttendRequest request = Dense();
  request.add_payloads("one too many");
  ExpectInvalid(request, "payloads: got 2, wanted 1 (query)");
  request = WithMask(Cross(), {1, 1, 3, 5});
  request.mutable_payloads()->RemoveLast();
  ExpectInvalid(request, "payloads: got 3, wanted 4 (query, key, value, mask)");
}

TEST_F(CheckRequestTest, RefusesAWrongRank) {
  v1::AttendRequest request = Dense();
  request.mutable_query()->add_shape(1);
  ExpectInvalid(request, "query.shape: got 4 dimensions, wanted [batch, seq_len, 16] or [tokens, 16]");
}

TEST_F(CheckRequestTest, RefusesAWrongDType) {
  v1::AttendRequest request = Dense();
  request.mutable_query()->set_dtype(v1::DTYPE_BOOL);
  const std::string wanted = "wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16";
  ExpectInvalid(request, "query.dtype: got DTYPE_BOOL, " + wanted);
  request = Cross();
  request.mutable_key()->set_dtype(v1::DTYPE_I32);
  ExpectInvalid(request, "key.dtype: got DTYPE_I32, " + wanted);
  request = Cross();
  request.mutable_value()->clear_dtype();
  ExpectInvalid(request, "value.dtype: got DTYPE_UNSPECIFIED, " + wanted);
}

TEST_F(CheckRequestTest, RefusesNegativeAndZeroDimensions) {
  v1::AttendRequest request = Dense();
  request.mutable_query()->set_shape(1, 0);
  ExpectInvalid(request, "query.shape: got [2, 0, 16], wanted every dimension to be at least 1");
  request.mutable_query()->set_shape(1, -3);
  ExpectInvalid(request, "query.shape: got [2, -3, 16], wanted every dimension to be at least 1");
}

TEST_F(CheckRequestTest, RefusesAShapeProductThatOverflows) {
  v1::AttendRequest request = Dense();
  request.mutable_query()->set_shape(0, int64_t{1} << 62);
  ExpectInvalid(request, "query.shape: [4611686018427387904, 3, 16] is more than 2^63 bytes");
}

TEST_F(CheckRequestTest, RefusesAWrongByteCount) {
  v1::AttendRequest request = Dense();
  request.mutable_payloads(0)->pop_back();
  ExpectInvalid(request, "payloads: got 383 bytes for query, wanted 384 for DTYPE_F32 [2, 3, 16]");
  request.set_payloads(0, "");
  ExpectInvalid(request, "payloads: got 0 bytes for query, wanted 384 for DTYPE_F32 [2, 3, 16]");
  request = MakeRequest("small", {2, 3, 16}, 1, v1::DTYPE_BF16);
  request.mutable_payloads(0)->pop_back();
  ExpectInvalid(request, "payloads: got 191 bytes for query, wanted 192 for DTYPE_BF16 [2, 3, 16]");
}

TEST_F(CheckRequestTest, RefusesAWrongEmbeddingWidth) {
  ExpectInvalid(MakeRequest("small", {2, 3, 15}),
                "query.shape: got [2, 3, 15], wanted [batch, seq_len, 16] or [tokens, 16]");
}

TEST_F(CheckRequestTest, RefusesAValueWithoutKey) {
  v1::AttendRequest request = Dense();
  AddFloats({2, 3, 16}, 2, *request.mutable_value(), request);
  ExpectInvalid(request, "value: got one without key, wanted both");
}

TEST_F(CheckRequestTest, RefusesKeysOfAnotherRankBatchOrWidth) {
  for (const auto& [shape, message] : std::vector<std::pair<Shape, std::string>>{
           {{10, 12}, "key.shape: got 2 dimensions, wanted [2, kv_len, 12]"},
           {{3, 5, 12}, "key.shape: got [3, 5, 12], wanted [2, kv_len, 12]"},
           {{2, 5, 16}, "key.shape: got [2, 5, 16], wanted [2, kv_len, 12]"}}) {
    v1::AttendRequest request = MakeRequest("cross", {2, 3, 16});
    AddFloats(shape, 2, *request.mutable_key(), request);
    ExpectInvalid(request, message);
  }
  v1::AttendRequest request = MakeRequest("cross", {6, 16});
  AddFloats({7, 11}, 2, *request.mutable_key(), request);
  ExpectInvalid(request, "key.shape: got [7, 11], wanted [kv_tokens, 12]");
}

TEST_F(CheckRequestTest, RefusesValuesThatDoNotGoWithTheKeys) {
  v1::AttendRequest request = MakeRequest("cross", {2, 3, 16});
  AddFloats({2, 5, 12}, 2, *request.mutable_key(), request);
  AddFloats({2, 4, 8}, 3, *request.mutable_value(), request);
  ExpectInvalid(request, "value.shape: got [2, 4, 8], wanted the leading dimensions of key [2, 5, 12]");
}

TEST_F(CheckRequestTest, RefusesSelfAttentionWhereTheModelWantsOtherWidths) {
  ExpectInvalid(MakeRequest("cross", {2, 3, 16}),
                "key: got none, wanted one: the model's kdim 12 and vdim 8 are not both its embed_dim 16");
  v1::AttendRequest request = MakeRequest("cross", {2, 3, 16});
  AddFloats({2, 5, 12}, 2, *request.mutable_key(), request);
  ExpectInvalid(request, "value: got none, wanted one: the model's vdim 8 is not its kdim 12");
}

// --- lengths ---

TEST_F(CheckRequestTest, RefusesAWrongNumberOfLengths) {
  v1::AttendRequest request = Dense();
  request.add_seq_lens(3);
  ExpectInvalid(request, "seq_lens: got 1, wanted 2, one for each sequence");
}

TEST_F(CheckRequestTest, RefusesLengthsOutsideTheSequence) {
  for (int64_t len : {int64_t{0}, int64_t{-1}, int64_t{4}, std::numeric_limits<int64_t>::max()}) {
    v1::AttendRequest request = Dense();
    request.add_seq_lens(3);
    request.add_seq_lens(len);
    ExpectInvalid(request, "seq_lens[1]: got " + std::to_string(len) + ", wanted 1 to 3");
  }
}

TEST_F(CheckRequestTest, RefusesRaggedLengthsThatDoNotSumToTheTokens) {
  v1::AttendRequest request = Ragged();
  request.set_seq_lens(0, 2);
  ExpectInvalid(request, "seq_lens: they sum to 7, wanted the 6 rows of query");
  request.set_seq_lens(0, 0);
  ExpectInvalid(request, "seq_lens[0]: got 0, wanted 1 to 6");
}

TEST_F(CheckRequestTest, RefusesKeyLengthsWithoutKey) {
  v1::AttendRequest request = Dense();
  request.add_kv_seq_lens(3);
  ExpectInvalid(request, "kv_seq_lens: got 1 without key, wanted none");
}

TEST_F(CheckRequestTest, RefusesKeyLengthsThatDoNotFit) {
  v1::AttendRequest request = Cross();
  request.add_kv_seq_lens(5);
  ExpectInvalid(request, "kv_seq_lens: got 1, wanted 2, one for each sequence");
  request.add_kv_seq_lens(6);
  ExpectInvalid(request, "kv_seq_lens[1]: got 6, wanted 1 to 5");
  request = RaggedCross();
  request.set_kv_seq_lens(0, 1);
  ExpectInvalid(request, "kv_seq_lens: they sum to 6, wanted the 7 rows of key");
  request.clear_kv_seq_lens();
  ExpectInvalid(request, "kv_seq_lens: got none, wanted 2, one for each sequence of query");
}

// --- mask ---

TEST_F(CheckRequestTest, RefusesAMaskOfTheWrongShape) {
  const std::string wanted = "wanted [2 or 1, 2 or 1, 3, 3] (batch, num_heads, q_len, kv_len)";
  ExpectInvalid(WithMask(Dense(), {3, 3}), "mask.shape: got 2 dimensions, " + wanted);
  for (const Shape& shape : std::vector<Shape>{{3, 1, 3, 3}, {1, 3, 3, 3}, {1, 1, 1, 3}, {1, 1, 3, 4}}) {
    ExpectInvalid(WithMask(Dense(), shape), "mask.shape: got " + ToString(shape) + ", " + wanted);
  }
  ExpectInvalid(
      WithMask(RaggedCross(), {1, 1, 6, 7}),
      "mask.shape: got [1, 1, 6, 7], wanted [2 or 1, 2 or 1, 4, 5] (batch, num_heads, q_len, kv_len)");
}

TEST_F(CheckRequestTest, RefusesAMaskOfAnotherDType) {
  v1::AttendRequest request = WithMask(Dense(), {1, 1, 3, 3});
  request.mutable_mask()->set_dtype(v1::DTYPE_I32);
  ExpectInvalid(request, "mask.dtype: got DTYPE_I32, wanted DTYPE_BOOL, DTYPE_F32, DTYPE_BF16 or DTYPE_F16");
}

// --- options ---

struct OptionCase {
  std::string message;
  std::function<void(v1::AttendRequest&)> change;
};

TEST_F(CheckRequestTest, EveryWrongOptionSaysSo) {
  using Request = v1::AttendRequest;
  const std::vector<OptionCase> cases = {
      {"window_left: got -1, wanted at least 0", [](Request& r) { r.set_window_left(-1); }},
      {"window_right: got -2, wanted at least 0", [](Request& r) { r.set_window_right(-2); }},
      {"output_dtype: got DTYPE_BOOL, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16",
       [](Request& r) { r.set_output_dtype(v1::DTYPE_BOOL); }},
      {"output_dtype: got DTYPE_I32, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16",
       [](Request& r) { r.set_output_dtype(v1::DTYPE_I32); }},
  };
  for (const OptionCase& option : cases) {
    v1::AttendRequest request = Dense();
    option.change(request);
    ExpectInvalid(request, option.message);
  }
}

TEST_F(CheckRequestTest, RefusesNumbersThatAreNoValueOfAnEnum) {
  using Request = v1::AttendRequest;
  const auto no_dtype = static_cast<v1::DType>(99);
  const std::vector<OptionCase> cases = {
      {"query.dtype: got 99, which is no DType, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16",
       [&](Request& r) { r.mutable_query()->set_dtype(no_dtype); }},
      {"key.dtype: got 99, which is no DType, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16",
       [&](Request& r) { r.mutable_key()->set_dtype(no_dtype); }},
      {"mask.dtype: got 99, which is no DType, wanted DTYPE_BOOL, DTYPE_F32, DTYPE_BF16 or DTYPE_F16",
       [&](Request& r) { r.mutable_mask()->set_dtype(no_dtype); }},
      {"output_dtype: got 99, which is no DType, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16",
       [&](Request& r) { r.set_output_dtype(no_dtype); }},
      {"output_dtype: got -1, which is no DType, wanted DTYPE_F32, DTYPE_BF16 or DTYPE_F16",
       [](Request& r) { r.set_output_dtype(static_cast<v1::DType>(-1)); }},
      {"weights.mode: got 42, which is no WeightsMode; wanted NONE, FULL, MEAN, TOP_K, SUMMARY or GRID",
       [](Request& r) { r.mutable_weights()->set_mode(static_cast<v1::WeightsMode>(42)); }},
  };
  for (const OptionCase& option : cases) {
    v1::AttendRequest request = WithMask(Cross(), {1, 1, 3, 5});
    option.change(request);
    ExpectInvalid(request, option.message);
  }
}

TEST_F(CheckRequestTest, TheQueriesEndWithinTheLongestSequence) {
  v1::AttendRequest request = Ragged();
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  request.mutable_weights()->set_query_end(4);
  ExpectInvalid(request, "weights.query_end: got 4, wanted at most the q_len 3 of the longest sequence");
}

// --- the size of the reply ---

TEST_F(CheckRequestTest, RefusesAReplyThatNoMessageCanHold) {
  v1::AttendRequest request = MakeRequest("small", {1, 400, 16});
  EXPECT_THAT(Decode(request), IsOk());
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);  // 2 * 400 * 400 * 4 bytes
  ExpectInvalid(request,
                "the reply would be too large: output [1, 400, 16] 25600 bytes, weights [1, 2, 400, 400] "
                "1280000 bytes; a "
                "message may have 1048576 (--max-message-bytes)");
  request.set_output_dtype(v1::DTYPE_BF16);  // 640000 bytes
  EXPECT_THAT(Decode(request), IsOk());
}

TEST_F(CheckRequestTest, KeysAndReceivedMassCountTowardsTheReply) {
  v1::AttendRequest request = MakeRequest("small", {1, 400, 16});
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_TOP_K);
  request.mutable_weights()->set_top_k(160);
  ExpectInvalid(
      request,
      "the reply would be too large: output [1, 400, 16] 25600 bytes, weights [1, 2, 400, 160] 512000 "
      "bytes, weights_keys [1, 2, 400, 160] 512000 bytes; a message may have 1048576 "
      "(--max-message-bytes)");
  request.mutable_weights()->set_top_k(159);
  EXPECT_THAT(Decode(request), IsOk());

  request = MakeRequest("small", {10'000, 16});
  request.add_seq_lens(9'000);
  for (int i = 0; i < 1'000; ++i) request.add_seq_lens(1);
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_SUMMARY);
  EXPECT_THAT(Decode(request), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("received_mass [1001, 2, 9000] 72072000 bytes")));
}

TEST_F(CheckRequestTest, ManyShortSequencesAndALongOneCannotAskForAHugeReply) {
  v1::AttendRequest request = MakeRequest("small", {12000, 16});
  request.add_seq_lens(2000);
  for (int i = 0; i < 10000; ++i) request.add_seq_lens(1);
  request.mutable_weights()->set_mode(v1::WEIGHTS_MODE_FULL);
  EXPECT_THAT(Decode(request), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("weights [10001, 2, 2000, 2000] 320032000000 bytes")));
}

}  // namespace
}  // namespace headlight
