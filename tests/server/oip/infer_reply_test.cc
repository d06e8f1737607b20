// SPDX-License-Identifier: Apache-2.0
//
// What both_faces_test.cc cannot compare: what only this protocol's replies hold.
#include "server/oip/infer_reply.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "server/batch/batch_executor.h"
#include "server/oip/infer_request.h"
#include "server/wire/received_message.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/oip/as_infer.h"
#include "tests/testing/slow_crc32c.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using inference::ModelInferRequest;
using inference::ModelInferResponse;
using testing::AddInput;
using testing::AsInfer;
using testing::BytesOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::FloatsOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeIdsRequest;
using testing::MakeRequest;
using testing::Segmented;
using testing::StatusIs;

// Takes what is written to the region "r".
class WrittenRegion final : public TensorRegions {
 public:
  absl::Status Check(const std::string&, const TensorPlace&) const override { return {}; }
  absl::StatusOr<TensorBytes> Read(const std::string&, const TensorPlace&) const override {
    return TensorBytes{};
  }
  absl::Status Write(const std::string& tenant, const TensorPlace& place,
                     std::span<const std::span<const std::byte>> pieces) const override {
    EXPECT_EQ(tenant, "tenant");
    written.clear();
    for (const std::span<const std::byte> piece : pieces) {
      const void* const from = piece.data();
      written.append(static_cast<const char*>(from), piece.size());
    }
    if (written.size() > place.byte_size) return absl::InvalidArgumentError("too small");
    return {};
  }

  mutable std::string written;
};

class InferReplyTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    registry_ = new ModelRegistry;
    ASSERT_THAT(registry_->Add(testing::MakeTestModel("small").loaded), IsOk());
    ModelConfig labelled = testing::EncoderWithHeads();
    labelled.heads.labels = {"no", "maybe", "yes"};
    ASSERT_THAT(registry_->Add(testing::LoadTestModel("encoder", labelled)), IsOk());
  }
  static void TearDownTestSuite() {
    delete registry_;
    registry_ = nullptr;
  }

  absl::StatusOr<grpc::ByteBuffer> Reply(const ModelInferRequest& request, bool of_stream = false) {
    const std::string bytes = request.SerializeAsString();
    const ByteSegments message = Segmented(bytes, 100);
    auto infer = testing::CheckInfer(message, {*registry_, 1 << 20}, &region_);
    if (!infer.ok()) return infer.status();
    ComputeArena arena(1);
    BufferPool pool(/*max_idle_bytes=*/1 << 20);
    AttentionExecutor executor(arena, pool);
    const BatchInput* const input = &infer->checked.input;
    const auto results = executor.Execute({&input, 1});
    EXPECT_THAT(results, IsOk());
    const auto& asked = static_cast<const InferRequest&>(*infer->request);
    return EncodeInfer({asked.tensors(), asked.tenant(), &region_, of_stream}, infer->checked.reply,
                       results->front());
  }

  ModelInferResponse Answer(const ModelInferRequest& request) {
    const auto reply = Reply(request);
    EXPECT_THAT(reply, IsOk());
    return reply.ok() ? testing::ParseInferReply(*reply) : ModelInferResponse();
  }

  static ModelRegistry* registry_;
  WrittenRegion region_;
};

ModelRegistry* InferReplyTest::registry_ = nullptr;

ModelInferRequest IdsAsking(const std::vector<std::string>& outputs) {
  ModelInferRequest request = AsInfer(MakeIdsRequest("encoder", {2, 4}));
  for (const std::string& output : outputs) request.add_outputs()->set_name(output);
  return request;
}

TEST_F(InferReplyTest, EveryOutputHasItsRawBytes) {
  const ModelInferResponse response = Answer(IdsAsking({"token_scores", "output", "logits"}));
  ASSERT_EQ(response.outputs_size(), 3);
  ASSERT_EQ(response.raw_output_contents_size(), 3);
  EXPECT_EQ(response.outputs(0).name(), "token_scores");
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(2, 4, 4));
  EXPECT_EQ(response.outputs(1).datatype(), "FP32");
  EXPECT_THAT(response.outputs(1).shape(), ElementsAre(2, 4, 16));
  EXPECT_EQ(response.raw_output_contents(1).size(), 2u * 4 * 16 * 4);
  EXPECT_THAT(response.outputs(2).shape(), ElementsAre(2, 3));
  EXPECT_EQ(response.raw_output_contents(2).size(), 2u * 3 * 4);
}

int64_t ChecksumOf(const ModelInferResponse& response, int output) {
  return response.outputs(output).parameters().at("crc32c").int64_param();
}

TEST_F(InferReplyTest, EveryOutputHasTheChecksumOfItsBytes) {
  ModelInferRequest padded = AsInfer(MakeRequest("small", {2, 3, 16}));
  AddInput("seq_lens", "INT64", {2}, BytesOf(std::vector<int64_t>{3, 1}), padded);
  ModelInferRequest classes = IdsAsking({"logits"});
  (*classes.mutable_outputs(0)->mutable_parameters())["classification"].set_int64_param(2);
  for (const ModelInferRequest& request :
       {padded, classes, IdsAsking({"output", "sparse", "token_scores"})}) {
    const ModelInferResponse response = Answer(request);
    for (int i = 0; i < response.outputs_size(); ++i) {
      EXPECT_EQ(ChecksumOf(response, i), testing::SlowCrc32c(response.raw_output_contents(i)))
          << response.outputs(i).name();
    }
  }
}

TEST_F(InferReplyTest, TwoNamesOfOneOutputHaveTheSameBytes) {
  const ModelInferResponse response = Answer(IdsAsking({"output", "last_hidden_state"}));
  ASSERT_EQ(response.raw_output_contents_size(), 2);
  EXPECT_EQ(response.raw_output_contents(0), response.raw_output_contents(1));
}

TEST_F(InferReplyTest, VectorsOfBytesHaveTheShapeOfTheirBytes) {
  ModelInferRequest request = IdsAsking({"sentence_embedding"});
  (*request.mutable_parameters())["vectors_dtype"].set_string_param("UINT8");
  ModelInferResponse response = Answer(request);
  EXPECT_EQ(response.outputs(0).datatype(), "UINT8");
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(2, 1));  // 5 bits
  EXPECT_EQ(response.raw_output_contents(0).size(), 2u);
  (*request.mutable_parameters())["vectors_dtype"].set_string_param("INT8");
  response = Answer(request);
  ASSERT_EQ(response.outputs_size(), 2);
  EXPECT_EQ(response.outputs(0).datatype(), "INT8");
  EXPECT_THAT(response.outputs(0).shape(), ElementsAre(2, 5));
  EXPECT_EQ(response.raw_output_contents(0).size(), 10u);
  EXPECT_EQ(response.outputs(1).name(), "sentence_embedding_scale");
  EXPECT_THAT(response.outputs(1).shape(), ElementsAre(2));
}

TEST_F(InferReplyTest, SparseVectorsTellTheirLengths) {
  ModelInferRequest request = IdsAsking({"sparse"});
  (*request.mutable_parameters())["sparse_top_k"].set_int64_param(3);
  const ModelInferResponse response = Answer(request);
  ASSERT_EQ(response.outputs_size(), 3);
  EXPECT_EQ(response.outputs(1).name(), "sparse_indices");
  EXPECT_EQ(response.outputs(1).datatype(), "INT32");
  EXPECT_EQ(response.outputs(2).name(), "sparse_lens");
  EXPECT_EQ(response.outputs(2).datatype(), "INT64");
  EXPECT_THAT(response.outputs(2).shape(), ElementsAre(2));
  int64_t lens[2];
  ASSERT_EQ(response.raw_output_contents(2).size(), sizeof(lens));
  std::memcpy(lens, response.raw_output_contents(2).data(), sizeof(lens));
  EXPECT_EQ(lens[0] + lens[1], response.outputs(0).shape(0));
  EXPECT_EQ(response.raw_output_contents(1).size(), 4u * response.outputs(0).shape(0));
}

TEST_F(InferReplyTest, ClassesAreTextsWithLabels) {
  ModelInferRequest request = IdsAsking({"logits"});
  const std::vector<float> scores = FloatsOf(Answer(request).raw_output_contents(0));
  (*request.mutable_outputs(0)->mutable_parameters())["classification"].set_int64_param(1);
  for (const char* const datatype : {"FP32", "BF16"}) {
    (*request.mutable_parameters())["output_dtype"].set_string_param(datatype);
    const ModelInferResponse response = Answer(request);
    EXPECT_EQ(response.outputs(0).datatype(), "BYTES");
    EXPECT_THAT(response.outputs(0).shape(), ElementsAre(2, 1));
    const auto largest = std::max_element(scores.begin(), scores.begin() + 3) - scores.begin();
    static const char* const kLabels[] = {"no", "maybe", "yes"};
    const std::string& bytes = response.raw_output_contents(0);
    uint32_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof(size));
    EXPECT_THAT(bytes.substr(4, size), EndsWith(":" + std::to_string(largest) + ":" + kLabels[largest]));
  }
}

TEST_F(InferReplyTest, OutputsGoToSharedMemoryWithTheirPadding) {
  ModelInferRequest request = AsInfer(MakeRequest("small", {2, 3, 16}));
  AddInput("seq_lens", "INT64", {2}, BytesOf(std::vector<int64_t>{3, 1}), request);
  request.add_outputs()->set_name("output");
  request.add_outputs()->set_name("attention_weights");
  const ModelInferResponse in_message = Answer(request);
  auto& parameters = *request.mutable_outputs(0)->mutable_parameters();
  parameters["shared_memory_region"].set_string_param("r");
  parameters["shared_memory_byte_size"].set_int64_param(1000);
  parameters["shared_memory_offset"].set_int64_param(8);
  const ModelInferResponse response = Answer(request);
  EXPECT_EQ(region_.written, in_message.raw_output_contents(0));
  EXPECT_EQ(ChecksumOf(response, 0), testing::SlowCrc32c(region_.written));
  ASSERT_EQ(response.raw_output_contents_size(), 2);
  EXPECT_EQ(response.raw_output_contents(0), "");
  EXPECT_EQ(response.raw_output_contents(1), in_message.raw_output_contents(1));
  const auto& told = response.outputs(0).parameters();
  EXPECT_EQ(told.at("shared_memory_region").string_param(), "r");
  EXPECT_EQ(told.at("shared_memory_byte_size").int64_param(), 384);
  EXPECT_EQ(told.at("shared_memory_offset").int64_param(), 8);
  parameters["shared_memory_byte_size"].set_int64_param(383);
  EXPECT_THAT(Reply(request).status(), StatusIs(absl::StatusCode::kInvalidArgument, "output.too small"));
}

TEST_F(InferReplyTest, AStreamsReplyIsInsideOfAnother) {
  const ModelInferRequest request = AsInfer(MakeRequest("small", {2, 3, 16}));
  const auto reply = Reply(request, /*of_stream=*/true);
  ASSERT_THAT(reply, IsOk());
  const auto message = Receive(*reply);
  ASSERT_THAT(message, IsOk());
  std::string bytes(message->segments.size_bytes(), '\0');
  message->segments.CopyTo(0, message->segments.size_bytes(),
                           std::as_writable_bytes(std::span(bytes)).data());
  inference::ModelStreamInferResponse response;
  ASSERT_TRUE(response.ParseFromString(bytes));
  EXPECT_EQ(response.error_message(), "");
  EXPECT_TRUE(response.infer_response().parameters().at("triton_final_response").bool_param());
  EXPECT_EQ(response.infer_response().raw_output_contents(0), Answer(request).raw_output_contents(0));
}

}  // namespace
}  // namespace headlight
