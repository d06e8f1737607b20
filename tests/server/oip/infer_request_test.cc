// SPDX-License-Identifier: Apache-2.0
//
// The protocol's own rules: which inputs meet which bytes, names, parameters and outputs. both_faces_test.cc
// has what holds in both protocols.
#include "server/oip/infer_request.h"

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/attend_fixtures.h"
#include "tests/server/oip/as_infer.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using inference::ModelInferRequest;
using testing::AddInput;
using testing::AsInfer;
using testing::BytesOf;
using testing::CheckedInfer;
using testing::CheckInfer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::IsOk;
using testing::LoadTestModel;
using testing::MakeIdsRequest;
using testing::MakeRequest;
using testing::MakeTestModel;
using testing::RandomFloats;
using testing::Segmented;
using testing::StatusIs;

constexpr int64_t kInferMessageBytes = 1 << 20;

class InferRequestTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    registry_ = new ModelRegistry;
    ASSERT_THAT(registry_->Add(MakeTestModel("small").loaded), IsOk());
    ASSERT_THAT(registry_->Add(MakeTestModel("cross", testing::CrossConfig()).loaded), IsOk());
    ASSERT_THAT(registry_->Add(LoadTestModel("encoder", testing::EncoderWithHeads())), IsOk());
  }
  static void TearDownTestSuite() {
    delete registry_;
    registry_ = nullptr;
  }

  absl::StatusOr<CheckedInfer> Check(const ModelInferRequest& request,
                                     const TensorRegions* regions = nullptr) {
    bytes_ = request.SerializeAsString();
    message_ = Segmented(bytes_, 100);
    return CheckInfer(message_, {*registry_, kInferMessageBytes}, regions);
  }

  template <typename Message>
  void ExpectRefused(const ModelInferRequest& request, const Message& message) {
    EXPECT_THAT(Check(request), StatusIs(absl::StatusCode::kInvalidArgument, message));
  }

  // Names of the reply's tensors.
  std::vector<std::string> Tensors(const CheckedInfer& infer) {
    std::vector<std::string> names;
    for (const AskedTensor& tensor : static_cast<const InferRequest&>(*infer.request).tensors()) {
      names.push_back(tensor.name);
    }
    return names;
  }

  static ModelRegistry* registry_;
  std::string bytes_;  // of the last request; what was checked points at them
  ByteSegments message_;
};

ModelRegistry* InferRequestTest::registry_ = nullptr;

ModelInferRequest Rows() { return AsInfer(MakeRequest("small", {2, 3, 16})); }
ModelInferRequest IdRows() { return AsInfer(MakeIdsRequest("encoder", {2, 4})); }
ModelInferRequest Asking(const std::vector<std::string>& outputs, ModelInferRequest request) {
  for (const std::string& output : outputs) request.add_outputs()->set_name(output);
  return request;
}
ModelInferRequest Said(ModelInferRequest request, const std::string& name, const std::string& text) {
  (*request.mutable_parameters())[name].set_string_param(text);
  return request;
}
ModelInferRequest Said(ModelInferRequest request, const std::string& name, int64_t number) {
  (*request.mutable_parameters())[name].set_int64_param(number);
  return request;
}
ModelInferRequest Masked(ModelInferRequest request, const Shape& shape, const std::vector<int64_t>& mask) {
  AddInput("attention_mask", "INT64", shape, BytesOf(mask), request);
  return request;
}

// --- raw and typed ---

TEST_F(InferRequestTest, RawInputsStayWhereTheyAre) {
  const ModelInferRequest request = Rows();
  bytes_ = request.SerializeAsString();
  message_ = Segmented(bytes_, 1 << 20);
  const auto infer = CheckInfer(message_, {*registry_, kInferMessageBytes});
  ASSERT_THAT(infer, IsOk());
  const void* const query = infer->checked.input.query.bytes.data();
  EXPECT_GE(query, static_cast<const void*>(bytes_.data()));
  EXPECT_LT(query, static_cast<const void*>(bytes_.data() + bytes_.size()));
}

TEST_F(InferRequestTest, TypedFloatsAreTheSameInput) {
  const std::vector<float> values = RandomFloats(2 * 3 * 16, 1);
  ModelInferRequest request = Rows();
  request.clear_raw_input_contents();
  request.mutable_inputs(0)->mutable_contents()->mutable_fp32_contents()->Assign(values.begin(),
                                                                                 values.end());
  const auto infer = Check(request);
  ASSERT_THAT(infer, IsOk());
  const ByteSegments& bytes = infer->checked.input.query.bytes;
  std::vector<float> got(values.size());
  ASSERT_EQ(bytes.size_bytes(), 4 * std::ssize(values));
  bytes.CopyTo(0, bytes.size_bytes(), std::as_writable_bytes(std::span(got)).data());
  EXPECT_EQ(got, values);
  EXPECT_GE(static_cast<const void*>(bytes.data()), static_cast<const void*>(bytes_.data()));
  EXPECT_LT(static_cast<const void*>(bytes.data()), static_cast<const void*>(bytes_.data() + bytes_.size()));
}

TEST_F(InferRequestTest, TypedIdsAndLengthsAreDecoded) {
  for (const bool wide : {true, false}) {
    ModelInferRequest request = IdRows();
    request.clear_raw_input_contents();
    auto& ids = *request.mutable_inputs(0);
    ids.set_datatype(wide ? "INT64" : "INT32");
    for (int i = 0; i < 8; ++i) {
      if (wide) {
        ids.mutable_contents()->add_int64_contents(i);
      } else {
        ids.mutable_contents()->add_int_contents(i);
      }
    }
    auto& lens = *request.add_inputs();
    lens.set_name("seq_lens");
    lens.set_datatype("INT64");
    lens.add_shape(2);
    lens.mutable_contents()->add_int64_contents(4);
    lens.mutable_contents()->add_int64_contents(1);
    const auto infer = Check(request);
    ASSERT_THAT(infer, IsOk());
    EXPECT_THAT(infer->checked.input.token_ids, ElementsAre(0, 1, 2, 3, 4));
    EXPECT_THAT(infer->checked.input.q_lens, ElementsAre(4, 1));
  }
}

TEST_F(InferRequestTest, RawAndTypedDoNotMix) {
  ModelInferRequest request = Rows();
  request.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  ExpectRefused(request,
                "inputs[0].contents: got some beside raw_input_contents, wanted all inputs raw or none");
  request.mutable_inputs(0)->mutable_contents()->Clear();  // there and empty
  ExpectRefused(request, HasSubstr("inputs[0].contents: got some beside raw_input_contents"));
}

TEST_F(InferRequestTest, TypedContentsHaveAsManyElementsAsTheShape) {
  ModelInferRequest request = Rows();
  request.clear_raw_input_contents();
  request.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  ExpectRefused(request, "query.contents: got 1 elements, wanted 96 for FP32 [2, 3, 16]");
  request.mutable_inputs(0)->mutable_contents()->Clear();
  ExpectRefused(request, "query.contents: got 0 elements, wanted 96 for FP32 [2, 3, 16]");
  request.mutable_inputs(0)->set_datatype("BF16");
  ExpectRefused(request, HasSubstr("query.contents: got some for BF16, wanted raw_input_contents"));
  request.mutable_inputs(0)->set_datatype("FP64");
  ExpectRefused(request, "query.datatype: got \"FP64\", wanted FP32, BF16 or FP16");
}

TEST_F(InferRequestTest, EveryInputHasBytes) {
  ModelInferRequest request = AsInfer(MakeRequest("cross", {2, 3, 16}));
  AddInput("key", "FP32", {2, 5, 12}, BytesOf(RandomFloats(120, 2)), request);
  AddInput("value", "FP32", {2, 5, 8}, BytesOf(RandomFloats(80, 3)), request);
  EXPECT_THAT(Check(request), IsOk());
  ModelInferRequest wrong = request;
  wrong.mutable_raw_input_contents()->RemoveLast();
  ExpectRefused(wrong, "raw_input_contents: got 2, wanted 3 (query, key, value)");
  wrong.clear_raw_input_contents();
  ExpectRefused(wrong, "raw_input_contents: got 0, wanted 3 (query, key, value)");
  wrong.mutable_inputs(0)->mutable_contents()->mutable_fp32_contents()->Resize(96, 1);
  ExpectRefused(wrong, "raw_input_contents: got 0, wanted 2 (key, value)");
  wrong = request;
  for (int i = 0; i < 61; ++i) wrong.add_raw_input_contents("x");
  EXPECT_EQ(wrong.raw_input_contents_size(), 64);
  ExpectRefused(wrong, "raw_input_contents: got 64, wanted 3 (query, key, value)");
  wrong.add_raw_input_contents("x");
  ExpectRefused(wrong, HasSubstr("ModelInferRequest: more than 64 raw_input_contents at byte"));
}

TEST_F(InferRequestTest, InputsComeInAnyOrderAndMeetTheirOwnBytes) {
  ModelInferRequest request;
  request.set_model_name("cross");
  AddInput("value", "FP32", {2, 5, 8}, BytesOf(RandomFloats(80, 3)), request);
  AddInput("key", "FP32", {2, 5, 12}, BytesOf(RandomFloats(120, 2)), request);
  AddInput("query", "BF16", {2, 3, 16}, std::string(192, '\0'), request);
  const auto infer = Check(request);
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.input.query.bytes.size_bytes(), 192);
  EXPECT_EQ(infer->checked.input.value.bytes.size_bytes(), 320);
}

// --- names ---

TEST_F(InferRequestTest, InputsThatThereAreNotAreRefused) {
  ModelInferRequest request = Rows();
  request.mutable_inputs(0)->set_name("qeury");
  ExpectRefused(request,
                "inputs[0].name: got \"qeury\", which is no input; did you mean query? Wanted one of query, "
                "key, value, attention_mask, input_ids, token_type_ids, seq_lens, kv_seq_lens, positions");
  request.mutable_inputs(0)->set_name("INPUT__0");
  ExpectRefused(request,
                HasSubstr("inputs[0].name: got \"INPUT__0\", which is no input; wanted one of query"));
  request.mutable_inputs(0)->clear_name();
  ExpectRefused(request, HasSubstr("inputs[0].name: got none, wanted one of query"));
  request = Rows();
  AddInput("query", "FP32", {1}, "abcd", request);
  ExpectRefused(request, "inputs[1].name: got query again, wanted each input once");
}

TEST_F(InferRequestTest, OutputsThatThereAreNotAreRefused) {
  ExpectRefused(
      Asking({"output", "otput"}, Rows()),
      HasSubstr("outputs[1].name: got \"otput\", which is no output; did you mean output? Wanted one of "
                "output, last_hidden_state"));
  ExpectRefused(Asking({""}, Rows()),
                HasSubstr("outputs[0].name: got \"\", which is no output; wanted one of"));
  ExpectRefused(Asking({"output", "output"}, Rows()),
                "outputs[1].name: got output again, wanted each output once");
  ExpectRefused(
      Asking({"attention_weights", "head_summary"}, Rows()),
      "outputs[1].name: got head_summary beside attention_weights, wanted one form of the weights in a "
      "request");
  ExpectRefused(
      Asking({"logits"}, Rows()),
      HasSubstr("outputs[0].name: got scores, which the model has not: its files have no such head"));
  ExpectRefused(Asking({"scores", "logits"}, IdRows()),
                "outputs[1].name: got scores, as outputs[0], wanted each kind once");
}

TEST_F(InferRequestTest, ManyOutputsAreReadAndRefused) {
  ModelInferRequest request = Rows();
  for (int i = 0; i < 10'000; ++i) request.add_outputs()->set_name("output");
  ExpectRefused(request, "outputs[1].name: got output again, wanted each output once");
  for (int i = 0; i < 10'000; ++i) request.mutable_outputs(i)->set_name("output_" + std::to_string(i));
  ExpectRefused(request, HasSubstr("outputs[0].name: got \"output_0\", which is no output"));
  for (int i = 0; i < 100'000; ++i) request.add_outputs();
  ExpectRefused(request, HasSubstr("the fields beside raw_input_contents take more than 262144 bytes"));
}

TEST_F(InferRequestTest, TheIdAndTheVersionAreTheRequests) {
  ModelInferRequest request = Rows();
  request.set_id("mine");
  request.set_model_version("1");
  const auto infer = Check(request);
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.reply.request_id, "mine");
}

TEST_F(InferRequestTest, TextsMustBeUtf8) {
  google::protobuf::LogSilencer quiet;
  const std::string bytes = "\x0a\x01\xff";
  EXPECT_THAT(CheckInfer(Segmented(bytes, 100), {*registry_, kInferMessageBytes}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("ModelInferRequest: protobuf cannot read its fields")));
}

// --- masks, lengths, positions ---

TEST_F(InferRequestTest, MasksThatPadOnTheRightAreLengths) {
  const auto infer = Check(Masked(IdRows(), {2, 4}, {1, 1, 1, 1, 1, 0, 0, 0}));
  ASSERT_THAT(infer, IsOk());
  EXPECT_THAT(infer->checked.input.q_lens, ElementsAre(4, 1));
  const auto rows = Check(Masked(Rows(), {2, 3}, {1, 1, 0, 1, 1, 1}));
  ASSERT_THAT(rows, IsOk());
  EXPECT_THAT(rows->checked.input.q_lens, ElementsAre(2, 3));
  ModelInferRequest of_bytes = IdRows();
  AddInput("attention_mask", "BOOL", {2, 4}, std::string("\1\1\0\0\1\1\1\0", 8), of_bytes);
  const auto bytes = Check(of_bytes);
  ASSERT_THAT(bytes, IsOk());
  EXPECT_THAT(bytes->checked.input.q_lens, ElementsAre(2, 3));
}

TEST_F(InferRequestTest, BesideKeysAMaskIsOfThem) {
  ModelInferRequest request = AsInfer(MakeRequest("cross", {2, 3, 16}));
  AddInput("key", "FP32", {2, 5, 12}, BytesOf(RandomFloats(120, 2)), request);
  AddInput("value", "FP32", {2, 5, 8}, BytesOf(RandomFloats(80, 3)), request);
  const auto infer = Check(Masked(request, {2, 5}, {1, 1, 0, 0, 0, 1, 1, 1, 1, 1}));
  ASSERT_THAT(infer, IsOk());
  EXPECT_THAT(infer->checked.input.q_lens, ElementsAre(3, 3));
  EXPECT_THAT(infer->checked.input.kv_lens, ElementsAre(2, 5));
}

TEST_F(InferRequestTest, AMaskOfEveryPairIsAMask) {
  ModelInferRequest request = Rows();
  AddInput("attention_mask", "BOOL", {1, 1, 3, 3}, std::string(9, '\1'), request);
  const auto infer = Check(request);
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.input.mask.bytes.size_bytes(), 9);
}

TEST_F(InferRequestTest, OtherMasksAreRefusedWithWhatToSend) {
  ExpectRefused(
      Masked(IdRows(), {2, 4}, {0, 1, 1, 1, 1, 1, 1, 1}),
      "attention_mask[0, 1]: got a 1 behind a 0, wanted the ones of a sequence first: pad on the right, as "
      "tokenizers do with padding_side=\"right\", or send seq_lens");
  ExpectRefused(Masked(IdRows(), {2, 4}, {1, 1, 1, 1, 1, 0, 1, 0}),
                HasSubstr("attention_mask[1, 2]: got a 1 behind a 0"));
  ExpectRefused(Masked(IdRows(), {2, 4}, {1, 1, 1, 2, 1, 1, 1, 1}),
                "attention_mask[0, 3]: got 2, wanted 1 for a token or 0 for padding");
  ExpectRefused(Masked(IdRows(), {2, 4}, {1, 1, 1, 1, 0, 0, 0, 0}),
                "attention_mask[1]: got no 1, wanted at least one token in each sequence");
  ExpectRefused(
      Masked(IdRows(), {2, 3}, {1, 1, 1, 1, 1, 1}),
      "attention_mask.shape: got [2, 3], wanted [2, 4], as input_ids has, for padding on the right");
  ExpectRefused(Masked(IdRows(), {8}, {1, 1, 1, 1, 1, 1, 1, 1}),
                HasSubstr("attention_mask.datatype: got INT64, wanted BOOL, FP32, BF16 or FP16"));
  ModelInferRequest both = Masked(IdRows(), {2, 4}, {1, 1, 1, 1, 1, 1, 1, 1});
  AddInput("seq_lens", "INT64", {2}, BytesOf(std::vector<int64_t>{4, 4}), both);
  ExpectRefused(
      both, "attention_mask: got one beside seq_lens, wanted one of them: both say which tokens are real");
  ExpectRefused(
      Masked(AsInfer(MakeRequest("small", {6, 16})), {2, 3}, {1, 1, 1, 1, 1, 1}),
      "attention_mask: got one of [2, 3], wanted none beside query [6, 16], which has no padding: seq_lens "
      "tells its sequences apart");
}

TEST_F(InferRequestTest, LengthsAreARowOrAColumn) {
  for (const Shape& shape : std::vector<Shape>{{2}, {2, 1}}) {
    ModelInferRequest request = Rows();
    AddInput("seq_lens", "INT32", shape, BytesOf(std::vector<int32_t>{1, 3}), request);
    const auto infer = Check(request);
    ASSERT_THAT(infer, IsOk());
    EXPECT_THAT(infer->checked.input.q_lens, ElementsAre(1, 3));
  }
  ModelInferRequest request = Rows();
  AddInput("seq_lens", "INT64", {1, 2}, BytesOf(std::vector<int64_t>{1, 3}), request);
  ExpectRefused(request, "seq_lens.shape: got [1, 2], wanted [batch]");
  request = Rows();
  AddInput("seq_lens", "FP32", {2}, BytesOf(std::vector<float>{1, 3}), request);
  ExpectRefused(request, "seq_lens.datatype: got FP32, wanted INT32 or INT64");
  request = Rows();
  AddInput("seq_lens", "INT64", {2}, "abc", request);
  ExpectRefused(request, "raw_input_contents: got 3 bytes for seq_lens, wanted 16 for INT64 [2]");
  request = Rows();
  AddInput("seq_lens", "INT64", {int64_t{1} << 61}, "abc", request);
  ExpectRefused(request, HasSubstr("seq_lens.shape: [2305843009213693952] is more than 2^63 bytes"));
}

TEST_F(InferRequestTest, PositionsAreOfTokenLogits) {
  ModelInferRequest request = Asking({"token_logits"}, IdRows());
  ExpectRefused(request, "positions: got none, wanted at least one");
  AddInput("positions", "INT64", {2}, BytesOf(std::vector<int64_t>{1, 7}), request);
  const auto infer = Check(request);
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.reply.outputs[0].shape, Shape({2, 50}));
  request.clear_outputs();
  ExpectRefused(request, "positions: got some, but none of the outputs is token_logits or logits");
}

// --- what is asked for ---

TEST_F(InferRequestTest, NothingAskedForIsTheOutput) {
  const auto infer = Check(Rows());
  ASSERT_THAT(infer, IsOk());
  EXPECT_THAT(Tensors(*infer), ElementsAre("output"));
  EXPECT_EQ(infer->checked.reply.output, Shape({2, 3, 16}));
  EXPECT_TRUE(infer->checked.reply.weights.empty());
}

TEST_F(InferRequestTest, TheOutputHasTheNamesThatPeopleKnow) {
  auto infer = Check(Asking({"last_hidden_state"}, IdRows()));
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.reply.output, Shape({2, 4, 16}));
  infer = Check(Asking({"sentence_embedding"}, IdRows()));
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.reply.output, Shape({2, 5}));
  EXPECT_TRUE(infer->checked.input.pools_as_model);
  infer = Check(Said(Asking({"sentence_embedding"}, IdRows()), "pooling", "cls"));
  ASSERT_THAT(infer, IsOk());
  EXPECT_THAT(infer->checked.input.pooling, ElementsAre(Pooling::kCls));
  infer = Check(Said(Asking({"output"}, IdRows()), "pooling", "model"));
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.reply.output, Shape({2, 5}));
}

TEST_F(InferRequestTest, OneOutputMayHaveTwoNames) {
  const auto infer = Check(Asking({"output", "last_hidden_state"}, IdRows()));
  ASSERT_THAT(infer, IsOk());
  EXPECT_THAT(Tensors(*infer), ElementsAre("output", "last_hidden_state"));
  EXPECT_THAT(infer->checked.input.outputs, IsEmpty());
}

TEST_F(InferRequestTest, LogitsAreThoseOfTheHeadThatAModelHas) {
  auto infer = Check(Asking({"logits"}, IdRows()));
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.input.outputs[0].kind, OutputKind::kScores);
  ModelInferRequest all = Asking({"output", "sentence_embedding", "logits", "token_scores"}, IdRows());
  infer = Check(all);
  ASSERT_THAT(infer, IsOk());
  EXPECT_THAT(Tensors(*infer), ElementsAre("output", "sentence_embedding", "logits", "token_scores"));
}

TEST_F(InferRequestTest, TensorsThatBelongTogetherComeTogether) {
  EXPECT_THAT(Tensors(*Check(Asking({"sparse", "output"}, IdRows()))),
              ElementsAre("sparse", "sparse_indices", "sparse_lens", "output"));
  EXPECT_THAT(Tensors(*Check(Asking({"sparse_lens", "sparse"}, IdRows()))),
              ElementsAre("sparse_lens", "sparse", "sparse_indices"));
  EXPECT_THAT(Tensors(*Check(Asking({"token_vectors"}, IdRows()))),
              ElementsAre("token_vectors", "token_vectors_lens"));
  EXPECT_THAT(Tensors(*Check(Said(Asking({"sentence_embedding"}, IdRows()), "vectors_dtype", "INT8"))),
              ElementsAre("sentence_embedding", "sentence_embedding_scale"));
}

TEST_F(InferRequestTest, WeightsComeByNameOrByParameter) {
  EXPECT_THAT(Tensors(*Check(Asking({"attention_weights"}, Rows()))), ElementsAre("attention_weights"));
  EXPECT_THAT(Tensors(*Check(Said(Rows(), "weights", "full"))), ElementsAre("output", "attention_weights"));
  EXPECT_THAT(Tensors(*Check(Said(Rows(), "weights_top_k", 2))),
              ElementsAre("output", "attention_topk_probs", "attention_topk_indices"));
  EXPECT_THAT(Tensors(*Check(Said(Rows(), "weights", "summary"))),
              ElementsAre("output", "head_summary", "attention_received"));
  const auto top = Check(Said(Asking({"attention_topk_indices"}, Rows()), "weights_top_k", 2));
  ASSERT_THAT(top, IsOk());
  EXPECT_EQ(top->checked.reply.weights_keys, Shape({2, 2, 3, 2}));
  ExpectRefused(Asking({"attention_topk_indices"}, Rows()), "weights_top_k: got 0, wanted 1 to 1024");
  ExpectRefused(Said(Asking({"output"}, Rows()), "weights", "full"),
                HasSubstr("weights: got another form than"));
}

TEST_F(InferRequestTest, OptionsThatNoOutputHasUseForAreRefused) {
  ExpectRefused(Said(Asking({"last_hidden_state"}, IdRows()), "pooling", "cls"),
                "pooling: got one, but none of the outputs is output or sentence_embedding");
  ExpectRefused(Said(Asking({"scores"}, IdRows()), "dimensions", 3),
                "dimensions: got one, but none of the outputs is sentence_embedding");
  ExpectRefused(Said(Asking({"scores"}, IdRows()), "vectors_dtype", "INT8"),
                "vectors_dtype: got one, but none of the outputs is sentence_embedding or token_vectors");
  ExpectRefused(Said(IdRows(), "sparse_top_k", 3),
                "sparse_top_k: got one, but none of the outputs is sparse");
}

TEST_F(InferRequestTest, OnlyVectorsInInt8HaveAScale) {
  ExpectRefused(
      Asking({"sentence_embedding_scale"}, IdRows()),
      "vectors_dtype: got none of INT8 beside sentence_embedding_scale, wanted it: only INT8 vectors "
      "have a scale");
  ExpectRefused(Said(Asking({"sentence_embedding_scale"}, IdRows()), "vectors_dtype", "UINT8"),
                HasSubstr("got none of INT8 beside sentence_embedding_scale"));
  ExpectRefused(Asking({"token_vectors_scale"}, IdRows()),
                HasSubstr("got none of INT8 beside token_vectors_scale"));
  const auto infer = Check(
      Said(Said(Asking({"sentence_embedding_scale"}, IdRows()), "vectors_dtype", "INT8"), "pooling", "mean"));
  ASSERT_THAT(infer, IsOk());
  EXPECT_THAT(Tensors(*infer), ElementsAre("sentence_embedding_scale"));
  EXPECT_THAT(infer->checked.input.outputs, SizeIs(1));
}

TEST_F(InferRequestTest, BothNamesOfAnOutputCountInTheReply) {
  const auto once = Check(Asking({"output"}, IdRows()));
  const auto twice = Check(Asking({"output", "last_hidden_state"}, IdRows()));
  ASSERT_THAT(once, IsOk());
  ASSERT_THAT(twice, IsOk());
  EXPECT_EQ(twice->checked.reply.payload_bytes, 2 * once->checked.reply.payload_bytes);
}

TEST_F(InferRequestTest, ShapesHaveFewDimensions) {
  ModelInferRequest request = Rows();
  for (int i = 0; i < 100'000; ++i) request.mutable_inputs(0)->add_shape(127);
  ExpectRefused(request, HasSubstr("query.shape: got 10000"));
}

TEST_F(InferRequestTest, ClassificationIsOfScores) {
  ModelInferRequest request = Asking({"logits"}, IdRows());
  (*request.mutable_outputs(0)->mutable_parameters())["classification"].set_int64_param(2);
  auto infer = Check(request);
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.reply.outputs[0].classes, 2);
  (*request.mutable_outputs(0)->mutable_parameters())["classification"].set_int64_param(100);
  infer = Check(request);
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.reply.outputs[0].classes, 3);  // all labels
  request.mutable_outputs(0)->set_name("output");
  ExpectRefused(request,
                "outputs[0].parameters[\"classification\"]: got one for last_hidden_state, wanted it for "
                "scores alone");
  request.mutable_outputs(0)->set_name("attention_weights");
  ExpectRefused(
      request,
      "outputs[0].parameters[\"classification\"]: got one for attention_weights, wanted it for scores");
}

TEST_F(InferRequestTest, ParametersReachTheRequest) {
  ModelInferRequest request = Said(Rows(), "timeout", 250'000);
  (*request.mutable_parameters())["priority"].set_uint64_param(1);
  (*request.mutable_parameters())["triton_enable_empty_final_response"].set_bool_param(true);
  const auto infer = Check(request);
  ASSERT_THAT(infer, IsOk());
  EXPECT_EQ(infer->checked.timeout_us, 250'000);
  EXPECT_EQ(infer->checked.priority, 10);
  ExpectRefused(Said(Rows(), "casual", 1), HasSubstr("did you mean causal?"));
}

TEST_F(InferRequestTest, NumbersThatAreNoneAreTaken) {
  ModelInferRequest request = Rows();
  const std::vector<float> values(96, std::numeric_limits<float>::quiet_NaN());
  request.set_raw_input_contents(0, BytesOf(values));
  EXPECT_THAT(Check(request), IsOk());
}

// --- shared memory ---

// One region "r" of its tenant.
class OneRegion final : public TensorRegions {
 public:
  explicit OneRegion(std::string bytes) : bytes_(std::move(bytes)) {}

  absl::Status Check(const std::string& tenant, const TensorPlace& place) const override {
    if (tenant == "tenant" && place.region == "r" && place.offset + place.byte_size <= bytes_.size())
      return {};
    return absl::NotFoundError("shared_memory_region: none");
  }
  absl::StatusOr<TensorBytes> Read(const std::string& tenant, const TensorPlace& place) const override {
    if (absl::Status status = Check(tenant, place); !status.ok()) return status;
    const void* const from = bytes_.data() + place.offset;
    return TensorBytes{{std::shared_ptr<const void>(), static_cast<const std::byte*>(from)},
                       static_cast<int64_t>(place.byte_size)};
  }
  absl::Status Write(const std::string&, const TensorPlace&,
                     std::span<const std::span<const std::byte>>) const override {
    return absl::UnimplementedError("read only");
  }

 private:
  const std::string bytes_;
};

ModelInferRequest InRegion(uint64_t offset, uint64_t byte_size) {
  ModelInferRequest request = Rows();
  request.clear_raw_input_contents();
  auto& parameters = *request.mutable_inputs(0)->mutable_parameters();
  parameters["shared_memory_region"].set_string_param("r");
  parameters["shared_memory_byte_size"].set_int64_param(static_cast<int64_t>(byte_size));
  parameters["shared_memory_offset"].set_int64_param(static_cast<int64_t>(offset));
  return request;
}

TEST_F(InferRequestTest, InputsMayLieInSharedMemory) {
  const std::vector<float> values = RandomFloats(96, 5);
  const OneRegion region("head" + BytesOf(values));
  const auto infer = Check(InRegion(4, 384), &region);
  ASSERT_THAT(infer, IsOk());
  const ByteSegments& bytes = infer->checked.input.query.bytes;
  std::vector<float> got(96);
  ASSERT_EQ(bytes.size_bytes(), 384);
  bytes.CopyTo(0, 384, std::as_writable_bytes(std::span(got)).data());
  EXPECT_EQ(got, values);
  infer->request->LetGo();
}

TEST_F(InferRequestTest, OtherInputsAreThenRawWithoutIt) {
  const OneRegion region(BytesOf(RandomFloats(96, 5)));
  ModelInferRequest request = InRegion(0, 384);
  AddInput("seq_lens", "INT64", {2}, BytesOf(std::vector<int64_t>{3, 1}), request);
  const auto infer = Check(request, &region);
  ASSERT_THAT(infer, IsOk());
  EXPECT_THAT(infer->checked.input.q_lens, ElementsAre(3, 1));
}

TEST_F(InferRequestTest, PlacesInSharedMemoryAreChecked) {
  const OneRegion region(std::string(384, 'x'));
  EXPECT_THAT(Check(InRegion(1, 384), &region), StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(Check(InRegion(0, 380), &region),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("query.shared_memory_byte_size: got 380, wanted 96 times 4 for FP32")));
  EXPECT_THAT(Check(InRegion(0, 384)),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("shared_memory_region")));
  ModelInferRequest request = Asking({"output"}, Rows());
  auto& parameters = *request.mutable_outputs(0)->mutable_parameters();
  parameters["shared_memory_region"].set_string_param("other");
  parameters["shared_memory_byte_size"].set_int64_param(384);
  EXPECT_THAT(Check(request, &region), StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  request = InRegion(0, 384);
  request.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  EXPECT_THAT(Check(request, &region),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "inputs[0].contents: got some beside shared_memory_region, wanted none"));
}

}  // namespace
}  // namespace headlight
