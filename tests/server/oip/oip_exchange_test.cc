// SPDX-License-Identifier: Apache-2.0
//
// ModelInfer and ModelStreamInfer over a real channel, with a computation that waits or fails as a test needs
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "inference/grpc_service.grpc.pb.h"
#include "server/oip/oip_face.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/oip/as_infer.h"
#include "tests/server/serving_test.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;

class OipExchangeTest : public testing::ServingTest {
 protected:
  OipExchangeTest() : ServingTest(/*queue_max_requests=*/100) {
    const InferMemory memory = {.pool = &pool_};
    exchanges_.Add(std::make_unique<OipFace>(OipFace::Method::kModelInfer, memory));
    exchanges_.Add(std::make_unique<OipFace>(OipFace::Method::kModelStreamInfer, memory));
  }

  void SetUp() override {
    ServingTest::SetUp();
    infer_stub_ = inference::GRPCInferenceService::NewStub(channel_);
  }

  static inference::ModelInferRequest Request(const std::string& id, const std::string& model = "small") {
    inference::ModelInferRequest request = testing::AsInfer(testing::MakeRequest(model, {1, 2, 16}));
    request.set_id(id);
    return request;
  }

  grpc::Status Infer(const inference::ModelInferRequest& request, inference::ModelInferResponse& response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + testing::kServingPatience);
    return infer_stub_->ModelInfer(&context, request, &response);
  }

  using Stream = grpc::ClientReaderWriter<inference::ModelInferRequest, inference::ModelStreamInferResponse>;
  std::unique_ptr<Stream> Open() {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(std::chrono::system_clock::now() + testing::kServingPatience);
    return infer_stub_->ModelStreamInfer(context_.get());
  }

  BufferPool pool_{/*max_idle_bytes=*/1 << 20};
  std::unique_ptr<inference::GRPCInferenceService::Stub> infer_stub_;
  std::unique_ptr<grpc::ClientContext> context_;
};

TEST_F(OipExchangeTest, AnswersWithIdModelAndVersion) {
  inference::ModelInferResponse response;
  ASSERT_TRUE(Infer(Request("mine"), response).ok());
  EXPECT_EQ(response.id(), "mine");
  EXPECT_EQ(response.model_name(), "small");
  EXPECT_EQ(response.model_version(), "1");
  ASSERT_EQ(response.raw_output_contents_size(), 1);
  EXPECT_EQ(response.raw_output_contents(0).size(), 128u);
  EXPECT_TRUE(response.parameters().empty());
}

TEST_F(OipExchangeTest, ErrorsAreStatuses) {
  inference::ModelInferResponse response;
  grpc::Status status = Infer(Request("mine", "large"), response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("model_name: no model \"large\"; there is small"));
  inference::ModelInferRequest request = Request("mine");
  request.mutable_inputs(0)->set_name("qeury");
  status = Infer(request, response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("did you mean query?"));
  executor_.set_error(absl::InternalError("broken"));
  status = Infer(Request("mine"), response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(status.error_message(), HasSubstr("request id \"mine\""));
}

TEST_F(OipExchangeTest, RecordsNameTheService) {
  inference::ModelInferResponse response;
  ASSERT_TRUE(Infer(Request("mine"), response).ok());
  WaitUntil([&] { return !told_.records().empty(); });
  const RequestRecord record = told_.records().front();
  EXPECT_STREQ(record.service, "inference.GRPCInferenceService");
  EXPECT_EQ(record.method, "ModelInfer");
  EXPECT_EQ(record.request_id, "mine");
}

TEST_F(OipExchangeTest, AStreamIsAnsweredInTheOrderOfItsRequests) {
  constexpr int kRequests = 200;
  auto stream = Open();
  std::thread writer([&] {
    for (int i = 0; i < kRequests; ++i) {
      EXPECT_TRUE(stream->Write(Request(std::to_string(i), i % 7 == 3 ? "large" : "small")));
    }
    EXPECT_TRUE(stream->WritesDone());
  });
  inference::ModelStreamInferResponse response;
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.infer_response().id(), std::to_string(i));
    if (i % 7 == 3) {
      EXPECT_THAT(response.error_message(), HasSubstr("model_name: no model \"large\""));
      EXPECT_EQ(response.infer_response().outputs_size(), 0);
      EXPECT_EQ(response.infer_response().parameters().at("grpc_status").int64_param(),
                grpc::StatusCode::NOT_FOUND);
    } else {
      EXPECT_EQ(response.error_message(), "");
      EXPECT_TRUE(response.infer_response().parameters().at("triton_final_response").bool_param());
      EXPECT_EQ(response.infer_response().raw_output_contents_size(), 1);
    }
  }
  EXPECT_FALSE(stream->Read(&response));
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
}

// The first request is being computed; the second is refused at once and waits for its turn.
TEST_F(OipExchangeTest, AnErrorWaitsForTheRepliesBeforeIt) {
  auto [entered, release] = executor_.HoldNextBatch();
  auto stream = Open();
  ASSERT_TRUE(stream->Write(Request("first")));
  entered.wait();
  ASSERT_TRUE(stream->Write(Request("second", "large")));
  WaitUntil([&] { return !told_.records().empty(); });  // of the refusal
  EXPECT_EQ(told_.records().front().request_id, "second");
  release.set_value();
  inference::ModelStreamInferResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.infer_response().id(), "first");
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.infer_response().id(), "second");
  EXPECT_NE(response.error_message(), "");
  ASSERT_TRUE(stream->WritesDone());
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(OipExchangeTest, TypedContentsAreGivenBackWhenTheRequestIsOver) {
  inference::ModelInferRequest request = Request("typed");
  request.clear_raw_input_contents();
  for (int i = 0; i < 32; ++i) request.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  auto& lens = *request.add_inputs();
  lens.set_name("seq_lens");
  lens.set_datatype("INT64");
  lens.add_shape(1);
  lens.mutable_contents()->add_int64_contents(2);
  inference::ModelInferResponse response;
  ASSERT_TRUE(Infer(request, response).ok());
  WaitUntil([&] { return pool_.idle_bytes() > 0; });
}

}  // namespace
}  // namespace headlight
