// SPDX-License-Identifier: Apache-2.0
//
// The methods about models and costs over a real channel.
#include "server/attend/attention_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/server/attend_fixtures.h"
#include "tests/server/serving_test.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRequest;

class AttentionServiceTest : public testing::ServingTest {
 protected:
  AttentionServiceTest() : ServingTest(/*queue_max_requests=*/1) {}

  static void ExpectStatus(const grpc::Status& status, grpc::StatusCode code, const std::string& message) {
    EXPECT_EQ(status.error_code(), code);
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }

  grpc::Status Estimate(const v1::AttendRequest& request, v1::EstimateCostResponse* response) {
    grpc::ClientContext context;
    v1::EstimateCostRequest estimate;
    *estimate.mutable_request() = request;
    estimate.mutable_request()->clear_payloads();
    return stub_->EstimateCost(&context, estimate, response);
  }
};

TEST_F(AttentionServiceTest, EstimatesARequestFromItsShapes) {
  v1::EstimateCostResponse small, large;
  ASSERT_TRUE(Estimate(MakeRequest("small", {1, 2, 16}), &small).ok());
  ASSERT_TRUE(Estimate(MakeRequest("small", {1, 4, 16}), &large).ok());
  EXPECT_EQ(small.projection_flops(), 2.0 * 2 * 4 * 16 * 16);
  EXPECT_EQ(large.projection_flops(), 2 * small.projection_flops());
  EXPECT_EQ(small.attention_flops(), 4.0 * 2 * 2 * 16);
  EXPECT_EQ(large.attention_flops(), 4 * small.attention_flops());
  EXPECT_EQ(small.reply_bytes(), 2 * 16 * 4);
  EXPECT_TRUE(small.admitted());
  EXPECT_FALSE(small.has_refusal());
  EXPECT_TRUE(executor_.batches().empty());
}

TEST_F(AttentionServiceTest, AnEstimateSaysWhatIsWrongWithARequest) {
  v1::EstimateCostResponse response;
  ExpectStatus(Estimate(MakeRequest("small", {1, 2, 15}), &response), grpc::StatusCode::INVALID_ARGUMENT,
               "query.shape: got [1, 2, 15]");
  v1::AttendRequest request = MakeRequest("small", {1, 2, 16});
  request.set_timeout_us(-1);
  ExpectStatus(Estimate(request, &response), grpc::StatusCode::INVALID_ARGUMENT,
               "timeout_us: got -1, wanted at least 0");
  request = MakeRequest("small", {1, 2, 16});
  request.set_priority(11);
  ExpectStatus(Estimate(request, &response), grpc::StatusCode::INVALID_ARGUMENT,
               "priority: got 11, wanted -10 to 10");
}

TEST_F(AttentionServiceTest, ListsEveryModel) {
  ASSERT_THAT(registry_.Add(testing::MakeTestModel("cross", testing::CrossConfig()).loaded), IsOk());
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  ASSERT_TRUE(stub_->ListModels(&context, {}, &response).ok());
  ASSERT_EQ(response.models_size(), 2);
  const v1::Model& model = response.models(0);
  EXPECT_EQ(model.name(), "cross");
  EXPECT_EQ(model.version(), "1");
  EXPECT_EQ(model.embed_dim(), 16);
  EXPECT_EQ(model.num_heads(), 2);
  EXPECT_EQ(model.num_kv_heads(), 2);
  EXPECT_EQ(model.head_dim(), 8);
  EXPECT_EQ(model.kdim(), 12);
  EXPECT_EQ(model.vdim(), 8);
  EXPECT_DOUBLE_EQ(model.scale(), 1 / std::sqrt(8.0));
  EXPECT_EQ(model.num_parameters(), (16 + 12 + 8 + 16) * 16 + 4 * 16);
  EXPECT_EQ(model.precision(), "f32");
  EXPECT_EQ(model.precision_asked(), "f32");
  EXPECT_EQ(model.precision_note(), "");
  EXPECT_EQ(model.precision_error().max_abs(), 0.0);
  EXPECT_EQ(model.precision_error().rms(), 0.0);
  EXPECT_EQ(model.precision_error().cosine(), 1.0);
  EXPECT_FALSE(model.has_rope() || model.alibi() || model.has_window_left() || model.has_window_right());
  EXPECT_EQ(model.logit_softcap(), 0.0);
  EXPECT_EQ(model.num_appended_keys(), 0);
  EXPECT_FALSE(model.kernel().empty());
  EXPECT_EQ(model.max_message_bytes(), 1 << 20);
}

TEST_F(AttentionServiceTest, DescribesWhatChangesTheScoresOfAModel) {
  AttentionConfig config = testing::SmallConfig();
  config.rope.emplace();
  config.rope->theta = 5e5;
  config.rope->rotary_dim = 4;
  config.rope->interleaved = true;
  config.rope->scaling = RopeConfig::Scaling::kLlama3;
  config.rope->factor = 8;
  config.rope->high_freq_factor = 3;
  config.rope->original_max_len = 77;
  config.logit_softcap = 30;
  config.window_left = 255;
  config.window_right = 0;
  config.precision = Precision::kBf16;
  ASSERT_THAT(registry_.Add(testing::MakeTestModel("rope", config).loaded), IsOk());
  config = testing::SmallConfig();
  config.alibi = true;
  config.add_bias_kv = true;
  config.add_zero_attn = true;
  ASSERT_THAT(registry_.Add(testing::MakeTestModel("alibi", config).loaded), IsOk());
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  ASSERT_TRUE(stub_->ListModels(&context, {}, &response).ok());
  ASSERT_EQ(response.models_size(), 3);
  const v1::Model& alibi = response.models(0);
  EXPECT_TRUE(alibi.alibi());
  EXPECT_TRUE(alibi.add_bias_kv());
  EXPECT_TRUE(alibi.add_zero_attn());
  EXPECT_EQ(alibi.num_appended_keys(), 2);
  const v1::Model& rope = response.models(1);
  EXPECT_EQ(rope.rope().theta(), 5e5);
  EXPECT_EQ(rope.rope().rotary_dim(), 4);
  EXPECT_TRUE(rope.rope().interleaved());
  EXPECT_EQ(rope.rope().scaling(), v1::Rope::SCALING_LLAMA3);
  EXPECT_EQ(rope.rope().factor(), 8);
  EXPECT_EQ(rope.rope().low_freq_factor(), 1);
  EXPECT_EQ(rope.rope().high_freq_factor(), 3);
  EXPECT_EQ(rope.rope().original_max_len(), 77);
  EXPECT_EQ(rope.logit_softcap(), 30);
  EXPECT_EQ(rope.window_left(), 255);
  EXPECT_TRUE(rope.has_window_right());
  EXPECT_EQ(rope.precision_asked(), "bf16");
  EXPECT_EQ(rope.precision() == "bf16", rope.precision_note().empty());
}

TEST_F(AttentionServiceTest, DescribesWhatAModelBeginsWithAndWhatItIsMadeOf) {
  ModelConfig config = testing::EncoderConfig();
  config.causal = true;
  ASSERT_THAT(registry_.Add(testing::LoadTestModel("encoder", config)), IsOk());
  const auto describe = [this](const std::string& name) {
    grpc::ClientContext context;
    v1::GetModelRequest request;
    v1::GetModelResponse response;
    request.set_model(name);
    EXPECT_TRUE(stub_->GetModel(&context, request, &response).ok());
    return response.model();
  };
  const v1::Model encoder = describe("encoder");
  EXPECT_EQ(encoder.num_layers(), 3);
  EXPECT_EQ(encoder.hidden_dim(), 24);
  EXPECT_TRUE(encoder.causal());
  EXPECT_FALSE(encoder.takes_key());
  EXPECT_TRUE(encoder.takes_token_ids());
  EXPECT_EQ(encoder.vocab_size(), 50);
  EXPECT_EQ(encoder.num_token_types(), 2);
  EXPECT_EQ(encoder.max_seq_len(), 20);
  EXPECT_EQ(encoder.pooling(), v1::POOLING_MODE_MEAN);
  EXPECT_TRUE(encoder.normalize_pooled());
  EXPECT_EQ(encoder.layout(), "native");

  const v1::Model small = describe("small");
  EXPECT_EQ(small.num_layers(), 1);
  EXPECT_EQ(small.hidden_dim(), 0);
  EXPECT_TRUE(small.takes_key());
  EXPECT_FALSE(small.takes_token_ids() || small.causal() || small.normalize_pooled());
  EXPECT_EQ(small.vocab_size(), 0);
  EXPECT_EQ(small.max_seq_len(), 0);
}

TEST_F(AttentionServiceTest, DescribesOneModel) {
  grpc::ClientContext context;
  v1::GetModelRequest request;
  v1::GetModelResponse response;
  request.set_model("small");
  ASSERT_TRUE(stub_->GetModel(&context, request, &response).ok());
  EXPECT_EQ(response.model().name(), "small");
}

TEST_F(AttentionServiceTest, AnUnknownOrUnnamedModelIsNotDescribed) {
  v1::GetModelRequest request;
  v1::GetModelResponse response;
  {
    grpc::ClientContext context;
    ExpectStatus(stub_->GetModel(&context, request, &response), grpc::StatusCode::INVALID_ARGUMENT,
                 "model: got none, wanted a model's name");
  }
  request.set_model("small");
  request.set_model_version("2");
  grpc::ClientContext context;
  ExpectStatus(stub_->GetModel(&context, request, &response), grpc::StatusCode::NOT_FOUND,
               "model_version: model \"small\" has no version \"2\"; there is 1");
}

}  // namespace
}  // namespace headlight
