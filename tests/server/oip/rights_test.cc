// SPDX-License-Identifier: Apache-2.0
//
// The Open Inference Protocol on a server with tokens: nobody learns of models that are not theirs.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "inference/grpc_service.grpc.pb.h"
#include "server/security/token_file.h"
#include "server/server.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/own_channel.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using inference::GRPCInferenceService;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;

constexpr char kOwner[] = "the token of who sees a-*";
constexpr char kOperator[] = "the token of who may control models";
constexpr char kStranger[] = "a token that nobody has";

// Holds a-one, b-one, and b-broken, which could not be loaded.
class OipRightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TokenTerms owner, op;
    owner.name = owner.tenant = "owner";
    owner.sha256 = HashToken(kOwner);
    owner.models = ModelRights({"a-*"});
    op.name = op.tenant = "operator";
    op.sha256 = HashToken(kOperator);
    op.models = ModelRights({"*"});
    op.model_control = true;
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.admin_listen.clear();
    options.threads = 1;
    options.tokens = folder_.Write("tokens.toml", WriteToken(owner) + WriteToken(op));
    auto registry = std::make_shared<ModelRegistry>();
    ASSERT_THAT(registry->Add(testing::MakeTestModel("a-one").loaded), IsOk());
    ASSERT_THAT(registry->Add(testing::MakeTestModel("b-one").loaded), IsOk());
    registry->SetLoadError("b-broken", "its file is short");
    auto server = HeadlightServer::Start(options, registry);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    stub_ = GRPCInferenceService::NewStub(testing::OwnChannelTo(server_->port()));
  }

  template <typename Request, typename Response>
  using Method = grpc::Status (GRPCInferenceService::Stub::*)(grpc::ClientContext*, const Request&,
                                                              Response*);

  template <typename Request, typename Response>
  grpc::Status Call(const std::string& token, Method<Request, Response> method, const Request& request,
                    Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
    return (stub_.get()->*method)(&context, request, response);
  }

  // Of a call about the model `name`.
  template <typename Request, typename Response>
  grpc::Status Ask(const std::string& token, Method<Request, Response> method, const std::string& name) {
    Request request;
    if constexpr (requires { request.set_name(name); }) {
      request.set_name(name);
    } else {
      request.set_model_name(name);
    }
    Response response;
    return Call(token, method, request, &response);
  }

  template <typename Request, typename Response>
  void ExpectHidden(const std::string& token, Method<Request, Response> method) {
    const grpc::Status hidden = Ask(token, method, "b-one");
    const grpc::Status absent = Ask(token, method, "b-two");
    EXPECT_EQ(hidden.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(absent.error_code(), grpc::StatusCode::NOT_FOUND);
    std::string field = "model_name";
    if constexpr (requires(Request request) { request.set_name(""); }) field = "name";
    EXPECT_EQ(hidden.error_message(), field + ": no model \"b-one\"; there is a-one");
    EXPECT_EQ(absent.error_message(), field + ": no model \"b-two\"; there is a-one");
    EXPECT_EQ(Ask(token, method, "b-broken").error_message(),
              field + ": no model \"b-broken\"; there is a-one");
  }

  template <typename Request, typename Response>
  void ExpectUnauthenticated(Method<Request, Response> method) {
    for (const std::string token : {"", kStranger}) {
      Response response;
      EXPECT_EQ(Call(token, method, Request(), &response).error_code(), grpc::StatusCode::UNAUTHENTICATED);
    }
  }

  const testing::TempFolder folder_;
  std::unique_ptr<HeadlightServer> server_;
  std::unique_ptr<GRPCInferenceService::Stub> stub_;
};

using Stub = GRPCInferenceService::Stub;

TEST_F(OipRightsTest, OnlyProbesOfTheServerNeedNoToken) {
  inference::ServerLiveResponse live;
  EXPECT_TRUE(Call("", &Stub::ServerLive, inference::ServerLiveRequest(), &live).ok());
  EXPECT_TRUE(live.live());
  inference::ServerReadyResponse ready;
  EXPECT_TRUE(Call(kStranger, &Stub::ServerReady, inference::ServerReadyRequest(), &ready).ok());
  EXPECT_TRUE(ready.ready());
  ExpectUnauthenticated(&Stub::ModelReady);
  ExpectUnauthenticated(&Stub::ServerMetadata);
  ExpectUnauthenticated(&Stub::ModelMetadata);
  ExpectUnauthenticated(&Stub::ModelConfig);
  ExpectUnauthenticated(&Stub::ModelStatistics);
  ExpectUnauthenticated(&Stub::RepositoryIndex);
  ExpectUnauthenticated(&Stub::RepositoryModelLoad);
  ExpectUnauthenticated(&Stub::RepositoryModelUnload);
  ExpectUnauthenticated(&Stub::SystemSharedMemoryStatus);
  ExpectUnauthenticated(&Stub::SystemSharedMemoryRegister);
  ExpectUnauthenticated(&Stub::SystemSharedMemoryUnregister);
  ExpectUnauthenticated(&Stub::CudaSharedMemoryStatus);
  ExpectUnauthenticated(&Stub::CudaSharedMemoryRegister);
  ExpectUnauthenticated(&Stub::CudaSharedMemoryUnregister);
  ExpectUnauthenticated(&Stub::LogSettings);
  ExpectUnauthenticated(&Stub::TraceSetting);
}

TEST_F(OipRightsTest, WhatMayNotBeSeenIsAnsweredAsWhatDoesNotExist) {
  ExpectHidden(kOwner, &Stub::ModelMetadata);
  ExpectHidden(kOwner, &Stub::ModelConfig);
  ExpectHidden(kOwner, &Stub::ModelStatistics);
  ExpectHidden(kOwner, &Stub::TraceSetting);
  EXPECT_TRUE(Ask(kOwner, &Stub::ModelMetadata, "a-one").ok());
  EXPECT_TRUE(Ask(kOperator, &Stub::ModelMetadata, "b-one").ok());
  EXPECT_THAT(Ask(kOperator, &Stub::ModelMetadata, "b-broken").error_message(), HasSubstr("short"));

  inference::ModelReadyRequest ready;
  ready.set_name("b-one");
  inference::ModelReadyResponse response;
  EXPECT_TRUE(Call(kOwner, &Stub::ModelReady, ready, &response).ok());
  EXPECT_FALSE(response.ready());
  EXPECT_TRUE(Call(kOperator, &Stub::ModelReady, ready, &response).ok());
  EXPECT_TRUE(response.ready());
}

TEST_F(OipRightsTest, ListsHoldWhatMayBeSeen) {
  const auto index = [this](const std::string& token) {
    inference::RepositoryIndexResponse response;
    EXPECT_TRUE(Call(token, &Stub::RepositoryIndex, inference::RepositoryIndexRequest(), &response).ok());
    std::vector<std::string> names;
    for (const auto& model : response.models()) names.push_back(model.name());
    return names;
  };
  EXPECT_THAT(index(kOwner), ElementsAre("a-one"));
  EXPECT_THAT(index(kOperator), ElementsAre("a-one", "b-broken", "b-one"));
  inference::ModelStatisticsResponse statistics;
  EXPECT_TRUE(Call(kOwner, &Stub::ModelStatistics, inference::ModelStatisticsRequest(), &statistics).ok());
  ASSERT_EQ(statistics.model_stats_size(), 1);
  EXPECT_EQ(statistics.model_stats(0).name(), "a-one");
}

TEST_F(OipRightsTest, ModelsAndTheLogAreForTokensWithThatRight) {
  for (const std::string model : {"a-one", "b-one", "no such one"}) {
    const grpc::Status denied = Ask(kOwner, &Stub::RepositoryModelLoad, model);
    EXPECT_EQ(denied.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(denied.error_message(), "this caller may not load and unload models");
    EXPECT_EQ(Ask(kOwner, &Stub::RepositoryModelUnload, model).error_message(), denied.error_message());
  }
  EXPECT_EQ(Ask(kOperator, &Stub::RepositoryModelLoad, "a-one").error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);

  inference::LogSettingsResponse log;
  EXPECT_TRUE(Call(kOwner, &Stub::LogSettings, inference::LogSettingsRequest(), &log).ok());
  inference::LogSettingsRequest change;
  (*change.mutable_settings())["log_error"].set_bool_param(true);  // as it is
  const grpc::Status denied = Call(kOwner, &Stub::LogSettings, change, &log);
  EXPECT_EQ(denied.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(denied.error_message(), "this caller may not change what is logged");
  EXPECT_TRUE(Call(kOperator, &Stub::LogSettings, change, &log).ok());
}

}  // namespace
}  // namespace headlight
