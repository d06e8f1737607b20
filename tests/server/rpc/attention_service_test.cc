// SPDX-License-Identifier: Apache-2.0
//
// The service over a real channel, with a computation that fails, waits or answers zeros as a test needs it.
#include "server/rpc/attention_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cmath>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/program/logging.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/serving_test.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRequest;

// One Attend in the background.
struct PendingCall {
  grpc::ClientContext context;
  v1::AttendRequest request;
  v1::AttendResponse response;
  std::promise<grpc::Status> promise;
  std::future<grpc::Status> status = promise.get_future();
};

class AttentionServiceTest : public testing::ServingTest {
 protected:
  AttentionServiceTest() : ServingTest(/*queue_max_requests=*/1) {}

  std::unique_ptr<PendingCall> Begin(v1::AttendRequest request) {
    auto call = std::make_unique<PendingCall>();
    call->request = std::move(request);
    call->context.set_deadline(std::chrono::system_clock::now() + testing::kServingPatience);
    Start(*call);
    return call;
  }

  void Start(PendingCall& call) {
    stub_->async()->Attend(&call.context, &call.request, &call.response,
                           [&call](grpc::Status status) { call.promise.set_value(std::move(status)); });
  }

  // A call that holds the dispatcher until the promise is kept.
  std::pair<std::unique_ptr<PendingCall>, std::promise<void>> Occupy() {
    auto [entered, release] = executor_.HoldNextBatch();
    auto call = Begin(Request());
    entered.wait();
    return {std::move(call), std::move(release)};
  }

  static v1::AttendRequest Request() { return MakeRequest("small", {1, 2, 16}); }

  void ExpectStatus(const grpc::Status& status, grpc::StatusCode code, const std::string& message) {
    EXPECT_EQ(status.error_code(), code);
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }

  void ExpectServes() { EXPECT_TRUE(Begin(Request())->status.get().ok()); }
};

TEST_F(AttentionServiceTest, RepliesWithTheCallersIdAndTheTimeBudget) {
  v1::AttendRequest request = Request();
  request.set_request_id("mine");
  auto call = Begin(request);
  ASSERT_TRUE(call->status.get().ok());
  EXPECT_EQ(call->response.request_id(), "mine");
  EXPECT_EQ(call->response.model(), "small");
  EXPECT_EQ(call->response.model_version(), "1");
  const v1::TimeBudget& budget = call->response.time_budget();
  EXPECT_EQ(budget.compute_threads(), 3);
  EXPECT_EQ(budget.kernel(), (*registry_.Find("small", ""))->model.attention().kernel_name());
  EXPECT_GE(budget.queue_us(), 0);
  EXPECT_GE(budget.total_us(), budget.queue_us() + budget.compute_us());
}

TEST_F(AttentionServiceTest, AFullQueueIsResourceExhausted) {
  auto [running, release] = Occupy();
  // One of two waits, the other is refused; which of them depends on the wind.
  auto a = Begin(Request());
  auto b = Begin(Request());
  while (a->status.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready &&
         b->status.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
  }
  const bool a_refused = a->status.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  ExpectStatus((a_refused ? a : b)->status.get(), grpc::StatusCode::RESOURCE_EXHAUSTED,
               "the queue is full: 1 requests wait, the limit is 1 (--queue-max-requests)");
  release.set_value();
  EXPECT_TRUE((a_refused ? b : a)->status.get().ok());
  EXPECT_TRUE(running->status.get().ok());
}

TEST_F(AttentionServiceTest, WhileDrainingNewCallsAreUnavailableAndAcceptedOnesFinish) {
  auto [running, release] = Occupy();
  scheduler_.StopAccepting();
  ExpectStatus(Begin(Request())->status.get(), grpc::StatusCode::UNAVAILABLE, "the server is shutting down");
  EXPECT_FALSE(service_.WaitUntilIdle(std::chrono::seconds(0)));
  release.set_value();
  EXPECT_TRUE(running->status.get().ok());
  EXPECT_TRUE(service_.WaitUntilIdle(testing::kServingPatience));
}

TEST_F(AttentionServiceTest, AnInternalErrorNamesTheRequest) {
  executor_.set_error(absl::InternalError("a broken invariant"));
  v1::AttendRequest request = Request();
  request.set_request_id("mine");
  ExpectStatus(Begin(request)->status.get(), grpc::StatusCode::INTERNAL,
               "a broken invariant (request id \"mine\")");
  ExpectStatus(Begin(Request())->status.get(), grpc::StatusCode::INTERNAL, "(request id #");
  executor_.set_error(absl::OkStatus());
  ExpectServes();
}

TEST_F(AttentionServiceTest, TheLogNamesBrokenInvariantsAlwaysAndRefusalsWhenDebugging) {
  const auto log_of_a_call_that_fails = [this](LogLevel level, absl::Status error) {
    ::testing::internal::CaptureStderr();
    ConfigureLogging(level, LogFormat::kText);
    executor_.set_error(std::move(error));
    v1::AttendRequest request = Request();
    request.set_request_id("mine");
    Begin(request)->status.get();
    spdlog::default_logger()->flush();
    const std::string log = ::testing::internal::GetCapturedStderr();
    ConfigureLogging(LogLevel::kInfo, LogFormat::kText);
    return log;
  };
  const absl::Status broken = absl::InternalError("a broken invariant");
  EXPECT_THAT(log_of_a_call_that_fails(LogLevel::kError, broken),
              HasSubstr("attend id=\"mine\" verdict=INTERNAL message=\"a broken invariant\""));
  const absl::Status refused = absl::ResourceExhaustedError("memory is short");
  EXPECT_THAT(log_of_a_call_that_fails(LogLevel::kDebug, refused),
              HasSubstr("attend id=\"mine\" verdict=RESOURCE_EXHAUSTED message=\"memory is short\""));
  EXPECT_EQ(log_of_a_call_that_fails(LogLevel::kInfo, refused), "");
}

TEST_F(AttentionServiceTest, ShortMemoryIsResourceExhaustedAndPasses) {
  executor_.set_error(absl::ResourceExhaustedError("memory is short"));
  ExpectStatus(Begin(Request())->status.get(), grpc::StatusCode::RESOURCE_EXHAUSTED, "memory is short");
  executor_.set_error(absl::OkStatus());
  ExpectServes();
}

TEST_F(AttentionServiceTest, ACancelledCallIsNotComputed) {
  auto [running, release] = Occupy();
  auto cancelled = Begin(Request());
  while (service_.num_calls() < 2) std::this_thread::yield();
  cancelled->context.TryCancel();
  EXPECT_EQ(cancelled->status.get().error_code(), grpc::StatusCode::CANCELLED);
  // The server hears of it on a thread of its own, and has when it refuses nobody for the cancelled call's
  // place.
  std::unique_ptr<PendingCall> next;
  do {
    next = Begin(Request());
  } while (next->status.wait_for(std::chrono::milliseconds(20)) == std::future_status::ready);
  release.set_value();
  EXPECT_TRUE(running->status.get().ok());
  EXPECT_TRUE(next->status.get().ok());
  EXPECT_TRUE(service_.WaitUntilIdle(testing::kServingPatience));
  EXPECT_EQ(executor_.batches().size(), 2u);
  EXPECT_EQ(executor_.batches()[1].size(), 1u);
}

TEST_F(AttentionServiceTest, ACallPastItsDeadlineIsNotComputed) {
  auto [running, release] = Occupy();
  PendingCall hurried;
  hurried.request = Request();
  hurried.context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  Start(hurried);
  EXPECT_EQ(hurried.status.get().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  release.set_value();
  EXPECT_TRUE(running->status.get().ok());
  EXPECT_TRUE(service_.WaitUntilIdle(testing::kServingPatience));
  EXPECT_EQ(executor_.batches().size(), 1u);
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
