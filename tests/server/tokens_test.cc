// SPDX-License-Identifier: Apache-2.0
//
// A whole server with tokens: who is let in, and that nobody learns of what is not theirs.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "headlight/v1/metadata.h"
#include "server/program/reload.h"
#include "server/security/token_file.h"
#include "server/server.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/own_channel.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using grpc::health::v1::HealthCheckResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRequest;
using testing::MakeTestModel;
using ::testing::Not;
using testing::StatusIs;

constexpr char kAlice[] = "the token of alice";
constexpr char kBob[] = "the token of bob, of tenant b";

TokenTerms TermsFor(const std::string& tenant, const std::string& token, std::vector<std::string> models) {
  TokenTerms terms;
  terms.name = terms.tenant = tenant;
  terms.sha256 = HashToken(token);
  terms.models = ModelRights(std::move(models));
  return terms;
}

// alice sees a-*, bob everything; models are a-one, b-one.
class TokensTest : public ::testing::Test {
 protected:
  void SetUp() override {
    alice_ = TermsFor("alice", kAlice, {"a-*"});
    bob_ = TermsFor("bob", kBob, {"*"});
    Start();
  }

  void Start() {
    server_.reset();
    ServerOptions options;
    options.admin_listen.clear();
    options.listen = "127.0.0.1:0";
    options.threads = 1;
    options.tokens = folder_.Write("tokens.toml", WriteToken(alice_) + WriteToken(bob_));
    auto registry = std::make_shared<ModelRegistry>();
    ASSERT_THAT(registry->Add(MakeTestModel("a-one").loaded), IsOk());
    ASSERT_THAT(registry->Add(MakeTestModel("b-one").loaded), IsOk());
    registry->SetLoadError("b-broken", "its file is short");
    auto server = HeadlightServer::Start(options, registry);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    channel_ = testing::OwnChannelTo(server_->port());
    stub_ = v1::AttentionService::NewStub(channel_);
  }

  static void Prepare(grpc::ClientContext& context, const std::string& token) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
  }

  grpc::Status Attend(const std::string& token, const std::string& model, std::string* reason = nullptr) {
    grpc::ClientContext context;
    Prepare(context, token);
    v1::AttendResponse response;
    const grpc::Status status = stub_->Attend(&context, MakeRequest(model, {1, 2, 16}), &response);
    const auto& trailers = context.GetServerTrailingMetadata();
    const auto found = trailers.find(v1::kReasonTrailer);
    if (reason != nullptr && found != trailers.end()) *reason = {found->second.data(), found->second.size()};
    return status;
  }

  grpc::Status GetModel(const std::string& token, const std::string& model) {
    grpc::ClientContext context;
    Prepare(context, token);
    v1::GetModelRequest request;
    request.set_model(model);
    v1::GetModelResponse response;
    return stub_->GetModel(&context, request, &response);
  }

  grpc::Status Estimate(const std::string& token, const std::string& model) {
    grpc::ClientContext context;
    Prepare(context, token);
    v1::EstimateCostRequest request;
    *request.mutable_request() = MakeRequest(model, {1, 2, 16});
    request.mutable_request()->clear_payloads();
    v1::EstimateCostResponse response;
    return stub_->EstimateCost(&context, request, &response);
  }

  grpc::Status Load(const std::string& token, const std::string& model) {
    grpc::ClientContext context;
    Prepare(context, token);
    v1::LoadModelRequest request;
    request.set_model(model);
    v1::LoadModelResponse response;
    return stub_->LoadModel(&context, request, &response);
  }

  grpc::Status Stream(const std::string& token, const std::string& model, v1::AttendResponse* response) {
    grpc::ClientContext context;
    Prepare(context, token);
    const auto stream = stub_->AttendStream(&context);
    stream->Write(MakeRequest(model, {1, 2, 16}));
    stream->WritesDone();
    stream->Read(response);
    return stream->Finish();
  }

  std::vector<std::string> List(const std::string& token) {
    grpc::ClientContext context;
    Prepare(context, token);
    v1::ListModelsResponse response;
    EXPECT_TRUE(stub_->ListModels(&context, {}, &response).ok());
    std::vector<std::string> names;
    for (const v1::Model& model : response.models()) names.push_back(model.name());
    return names;
  }

  grpc::Status CheckHealth(const std::string& token, const std::string& service) {
    grpc::ClientContext context;
    Prepare(context, token);
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    return grpc::health::v1::Health::NewStub(channel_)->Check(&context, request, &response);
  }

  std::vector<std::string> ListHealth(const std::string& token) {
    grpc::ClientContext context;
    Prepare(context, token);
    grpc::health::v1::HealthListResponse response;
    EXPECT_TRUE(grpc::health::v1::Health::NewStub(channel_)->List(&context, {}, &response).ok());
    std::vector<std::string> names;
    for (const auto& [name, status] : response.statuses()) names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }

  HealthCheckResponse::ServingStatus FirstWatched(const std::string& token, const std::string& service) {
    grpc::ClientContext context;
    Prepare(context, token);
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    const auto watch = grpc::health::v1::Health::NewStub(channel_)->Watch(&context, request);
    EXPECT_TRUE(watch->Read(&response));
    context.TryCancel();
    return response.status();
  }

  const testing::TempFolder folder_;
  TokenTerms alice_;
  TokenTerms bob_;
  std::unique_ptr<HeadlightServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AttentionService::Stub> stub_;
};

void ExpectUnauthenticated(const grpc::Status& status) {
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(status.error_message(), "the call needs a valid bearer token");
}

TEST_F(TokensTest, NobodyGetsInWithoutATokenOfTheFile) {
  v1::AttendResponse response;
  for (const std::string token : {"", "the token of mallory"}) {
    std::string reason;
    ExpectUnauthenticated(Attend(token, "a-one", &reason));
    EXPECT_EQ(reason, "unauthenticated");
    ExpectUnauthenticated(Stream(token, "a-one", &response));
    ExpectUnauthenticated(GetModel(token, "a-one"));
    ExpectUnauthenticated(Estimate(token, "a-one"));
    ExpectUnauthenticated(Load(token, "a-one"));
    grpc::ClientContext context;
    Prepare(context, token);
    v1::ListModelsResponse models;
    ExpectUnauthenticated(stub_->ListModels(&context, {}, &models));
    EXPECT_EQ(models.models_size(), 0);
  }
}

TEST_F(TokensTest, EachSeesTheirOwn) {
  EXPECT_TRUE(Attend(kAlice, "a-one").ok());
  EXPECT_TRUE(Attend(kBob, "b-one").ok());
  EXPECT_THAT(List(kAlice), ElementsAre("a-one"));
  EXPECT_THAT(List(kBob), ElementsAre("a-one", "b-one", "b-broken"));
}

TEST_F(TokensTest, WhatMayNotBeSeenIsAnsweredAsWhatDoesNotExist) {
  const auto expect_same = [](const grpc::Status& hidden, const grpc::Status& absent) {
    EXPECT_EQ(hidden.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(absent.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(hidden.error_message(), "model: no model \"b-one\"; there is a-one");
    EXPECT_EQ(absent.error_message(), "model: no model \"b-two\"; there is a-one");
  };
  expect_same(Attend(kAlice, "b-one"), Attend(kAlice, "b-two"));
  expect_same(GetModel(kAlice, "b-one"), GetModel(kAlice, "b-two"));
  expect_same(Estimate(kAlice, "b-one"), Estimate(kAlice, "b-two"));
  EXPECT_THAT(GetModel(kAlice, "b-broken").error_message(), Not(HasSubstr("short")));
  v1::AttendResponse response;
  EXPECT_TRUE(Stream(kAlice, "b-one", &response).ok());
  EXPECT_EQ(response.error().message(), "model: no model \"b-one\"; there is a-one");
}

TEST_F(TokensTest, ModelsAreForTokensWithThatRightToLoad) {
  const grpc::Status denied = Load(kBob, "a-one");
  EXPECT_EQ(denied.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(denied.error_message(), "this caller may not load and unload models");
  EXPECT_EQ(Load(kBob, "no such one").error_message(), denied.error_message());
  bob_.model_control = true;
  Start();
  EXPECT_EQ(Load(kBob, "a-one").error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(TokensTest, HealthOfTheWholeIsForEverybodyAndOfModelsForWhoMaySeeThem) {
  for (const std::string token : {"", "the token of mallory", kAlice, kBob}) {
    EXPECT_TRUE(CheckHealth(token, "").ok());
    EXPECT_TRUE(CheckHealth(token, "headlight.v1.AttentionService").ok());
    EXPECT_EQ(CheckHealth(token, "models/x").error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(CheckHealth(token, "models/b-one").ok(), token == kBob);
    EXPECT_EQ(FirstWatched(token, "models/b-one"),
              token == kBob ? HealthCheckResponse::SERVING : HealthCheckResponse::SERVICE_UNKNOWN);
    EXPECT_EQ(FirstWatched(token, ""), HealthCheckResponse::SERVING);
  }
  EXPECT_EQ(CheckHealth(kAlice, "models/b-one").error_message(),
            CheckHealth(kAlice, "models/b-two").error_message());
  EXPECT_THAT(ListHealth(""),
              ElementsAre("", "headlight.v1.AttentionService", "inference.GRPCInferenceService"));
  EXPECT_THAT(ListHealth(kAlice), ElementsAre("", "headlight.v1.AttentionService",
                                              "inference.GRPCInferenceService", "models/a-one"));
  EXPECT_EQ(ListHealth(kBob).size(), 5u);
  EXPECT_EQ(CheckHealth(kBob, "models/" + std::string(1 << 15, 'x')).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

// What reflection of that version says to `token`.
template <typename Protocol, typename Request, typename Response>
grpc::Status Reflect(const std::shared_ptr<grpc::Channel>& channel, const std::string& token,
                     const std::vector<Request>& requests, std::vector<Response>& responses) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
  const auto stub = Protocol::NewStub(channel);
  const auto stream = stub->ServerReflectionInfo(&context);
  for (const Request& request : requests) {
    Response response;
    if (!stream->Write(request) || !stream->Read(&response)) break;
    responses.push_back(response);
  }
  stream->WritesDone();
  return stream->Finish();
}

template <typename Protocol, typename Request, typename Response>
void ExpectReflection(const std::shared_ptr<grpc::Channel>& channel) {
  std::vector<Request> requests(8);
  requests[0].set_list_services("");
  requests[1].set_file_containing_symbol("headlight.v1.AttentionService");
  requests[2].set_file_by_filename("grpc/health/v1/health.proto");
  requests[3].set_file_containing_symbol("headlight.v1.Nothing");
  requests[4].set_all_extension_numbers_of_type("headlight.v1.AttendRequest");
  requests[5].mutable_file_containing_extension()->set_containing_type("headlight.v1.AttendRequest");
  requests[7].set_file_containing_symbol("inference.GRPCInferenceService");
  std::vector<Response> responses;
  EXPECT_EQ((Reflect<Protocol>(channel, "", requests, responses).error_code()),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(responses.empty());
  ASSERT_TRUE((Reflect<Protocol>(channel, kAlice, requests, responses).ok()));
  ASSERT_EQ(responses.size(), requests.size());
  std::vector<std::string> services;
  for (const auto& service : responses[0].list_services_response().service())
    services.push_back(service.name());
  EXPECT_THAT(services,
              ElementsAre("headlight.v1.AttentionService", "inference.GRPCInferenceService",
                          "grpc.health.v1.Health", "xds.service.orca.v3.OpenRcaService",
                          "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"));
  ASSERT_GT(responses[1].file_descriptor_response().file_descriptor_proto_size(), 0);
  EXPECT_THAT(responses[1].file_descriptor_response().file_descriptor_proto(0), HasSubstr("AttendStream"));
  EXPECT_THAT(responses[2].file_descriptor_response().file_descriptor_proto(0),
              HasSubstr("HealthListResponse"));
  EXPECT_EQ(responses[3].error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(responses[4].all_extension_numbers_response().base_type_name(), "headlight.v1.AttendRequest");
  EXPECT_EQ(responses[5].error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(responses[6].error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  ASSERT_GT(responses[7].file_descriptor_response().file_descriptor_proto_size(), 0);
  EXPECT_THAT(responses[7].file_descriptor_response().file_descriptor_proto(0),
              HasSubstr("ModelStreamInfer"));
  EXPECT_EQ(responses[2].original_request().file_by_filename(), "grpc/health/v1/health.proto");
}

TEST_F(TokensTest, ReflectionIsForWhoHasAToken) {
  namespace v1alpha = grpc::reflection::v1alpha;
  ExpectReflection<grpc::reflection::v1::ServerReflection, grpc::reflection::v1::ServerReflectionRequest,
                   grpc::reflection::v1::ServerReflectionResponse>(channel_);
  ExpectReflection<v1alpha::ServerReflection, v1alpha::ServerReflectionRequest,
                   v1alpha::ServerReflectionResponse>(channel_);
}

TEST_F(TokensTest, WhoAsksForTooMuchIsToldWhenToComeAgain) {
  alice_.compute_seconds_per_second = 0.001;
  Start();
  grpc::Status status;
  std::string reason;
  for (int i = 0; i < 2000 && status.ok(); ++i) status = Attend(kAlice, "a-one", &reason);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("0.001 seconds of predicted compute time a second"));
  EXPECT_EQ(reason, "rate_limited");
  EXPECT_THAT(status.error_details(), HasSubstr("RetryInfo"));
  EXPECT_TRUE(Attend(kBob, "b-one").ok());
}

TEST_F(TokensTest, TokensAreExchangedUnderLoadAndABrokenFileChangesNothing) {
  std::atomic<bool> stop{false};
  std::atomic<int64_t> answered{0};
  std::vector<std::string> failures(2);
  std::vector<std::thread> callers;
  for (size_t i = 0; i < failures.size(); ++i) {
    callers.emplace_back([&, i] {
      while (!stop) {
        const grpc::Status status = Attend(kAlice, "a-one");
        if (!status.ok()) failures[i] = status.error_message();
        ++answered;
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    const TokenTerms extra = TermsFor("extra", "the token of somebody " + std::to_string(i), {"*"});
    folder_.Write("tokens.toml", WriteToken(alice_) + WriteToken(extra));
    EXPECT_THAT(ReloadTokens(folder_.File("tokens.toml"), server_->gate()), IsOk());
    folder_.Write("tokens.toml", "[[token]]\nname = \"half of a");
    EXPECT_THAT(ReloadTokens(folder_.File("tokens.toml"), server_->gate()),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokens.toml:2: got no TOML")));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(failures, ElementsAre("", ""));
  EXPECT_GT(answered, 0);
  ExpectUnauthenticated(Attend(kBob, "b-one"));
  EXPECT_TRUE(Attend("the token of somebody 49", "b-one").ok());
  ExpectUnauthenticated(Attend("the token of somebody 48", "b-one"));
}

TEST_F(TokensTest, ABrokenFileIsNoStart) {
  ServerOptions options;
  options.admin_listen.clear();
  options.listen = "127.0.0.1:0";
  options.tokens = folder_.Write("broken.toml", "[[token]]\n");
  EXPECT_THAT(HeadlightServer::Start(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("broken.toml:1: name: got none")));
}

}  // namespace
}  // namespace headlight
