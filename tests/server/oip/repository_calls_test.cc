// SPDX-License-Identifier: Apache-2.0
//
// The Open Inference Protocol's calls about a folder of models: what is in it, and how models come and go.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/checkpoint/folder.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "inference/grpc_service.grpc.pb.h"
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

// Holds "first" in version 1 and "second" in version 7; only "first" is loaded.
class RepositoryCallsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Save("first");
    Save("second/7");
    Start(/*allow_model_control=*/true);
  }

  void Start(bool allow_model_control, int64_t lame_duck_s = 0) {
    server_.reset();
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.admin_listen.clear();
    options.threads = 1;
    options.model_repository = folder_.path();
    options.load = {"first"};
    options.allow_model_control = allow_model_control;
    options.lame_duck_s = lame_duck_s;
    auto server = HeadlightServer::Start(options);
    ASSERT_THAT(server, IsOk());
    server_ = *std::move(server);
    channel_ = testing::OwnChannelTo(server_->port());
    stub_ = GRPCInferenceService::NewStub(channel_);
  }

  void Save(const std::string& name) {
    ModelConfig config;
    config.block.attention.embed_dim = 8;
    config.block.attention.num_heads = 2;
    config = config.Resolved();
    std::filesystem::create_directories(folder_.File(name));
    ASSERT_THAT(SaveModelFolder(folder_.File(name), config, RandomModelParameters(config, 1)), IsOk());
  }

  static void SetDeadline(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  }

  std::vector<std::string> Index() {
    grpc::ClientContext context;
    SetDeadline(context);
    inference::RepositoryIndexResponse response;
    EXPECT_TRUE(stub_->RepositoryIndex(&context, {}, &response).ok());
    std::vector<std::string> lines;
    for (const auto& model : response.models()) {
      lines.push_back(model.name() + "/" + model.version() + " " + model.state() + " " + model.reason());
    }
    return lines;
  }

  grpc::Status Load(const inference::RepositoryModelLoadRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    inference::RepositoryModelLoadResponse response;
    return stub_->RepositoryModelLoad(&context, request, &response);
  }
  grpc::Status Load(const std::string& name) {
    inference::RepositoryModelLoadRequest request;
    request.set_model_name(name);
    return Load(request);
  }

  grpc::Status Unload(const inference::RepositoryModelUnloadRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    inference::RepositoryModelUnloadResponse response;
    return stub_->RepositoryModelUnload(&context, request, &response);
  }

  bool Ready(const std::string& name) {
    grpc::ClientContext context;
    SetDeadline(context);
    inference::ModelReadyRequest request;
    request.set_name(name);
    inference::ModelReadyResponse response;
    EXPECT_TRUE(stub_->ModelReady(&context, request, &response).ok());
    return response.ready();
  }

  const testing::TempFolder folder_;
  std::unique_ptr<HeadlightServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<GRPCInferenceService::Stub> stub_;
};

TEST_F(RepositoryCallsTest, ModelsComeAndGoAsTheyAreAskedTo) {
  EXPECT_THAT(Index(), ElementsAre("first/1 READY ", "second/7 UNAVAILABLE unloaded"));
  EXPECT_FALSE(Ready("second"));
  const grpc::Status loaded = Load("second");
  EXPECT_TRUE(loaded.ok()) << loaded.error_message();
  EXPECT_TRUE(Ready("second"));
  EXPECT_THAT(Index(), ElementsAre("first/1 READY ", "second/7 READY "));
  inference::RepositoryModelUnloadRequest unload;
  unload.set_model_name("first");
  (*unload.mutable_parameters())["unload_dependents"].set_bool_param(true);  // clients always say one
  EXPECT_TRUE(Unload(unload).ok());
  EXPECT_FALSE(Ready("first"));
  EXPECT_THAT(Index(), ElementsAre("first/1 UNAVAILABLE unloaded", "second/7 READY "));
}

TEST_F(RepositoryCallsTest, ABrokenVersionIsListedBesideTheOneThatServes) {
  std::filesystem::create_directories(folder_.File("second/8"));
  folder_.Write("second/8/config.json", "{");
  EXPECT_FALSE(Load("second").ok());
  const auto lines = Index();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1], "second/7 READY ");
  EXPECT_THAT(lines[2], HasSubstr("second/8 UNAVAILABLE version 8: config.json"));

  folder_.Write("second/7/config.json", "{");
  std::filesystem::remove_all(folder_.File("second/8"));
  EXPECT_FALSE(Load("second").ok());
  EXPECT_THAT(Index()[1], HasSubstr("second/7 READY version 7: config.json"));
}

TEST_F(RepositoryCallsTest, WhatClientsSayOfAModelBesideItsNameIsRefusedByName) {
  inference::RepositoryModelLoadRequest load;
  load.set_model_name("second");
  (*load.mutable_parameters())["config"].set_string_param("{}");
  grpc::Status status = Load(load);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("parameters: got \"config\", wanted none"));
  inference::RepositoryModelUnloadRequest unload;
  unload.set_model_name("first");
  (*unload.mutable_parameters())["force"].set_bool_param(true);
  EXPECT_EQ(Unload(unload).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  status = Load("");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("model_name: got none"));
  status = Load("absent");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(status.error_message(),
              HasSubstr("model_name: the repository has no model \"absent\"; there is first, second"));
  EXPECT_TRUE(Ready("first"));
}

TEST_F(RepositoryCallsTest, NothingIsReadyOnceAShutdownHasBegun) {
  Start(/*allow_model_control=*/true, /*lame_duck_s=*/3);
  const auto server_is_ready = [this] {
    grpc::ClientContext context;
    SetDeadline(context);
    inference::ServerReadyResponse response;
    EXPECT_TRUE(stub_->ServerReady(&context, {}, &response).ok());
    return response.ready();
  };
  EXPECT_TRUE(server_is_ready());
  EXPECT_TRUE(Ready("first"));
  auto shutdown = std::async(std::launch::async, [this] { return server_->Shutdown(); });
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  while (server_is_ready() && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  EXPECT_FALSE(server_is_ready());
  EXPECT_FALSE(Ready("first"));
  EXPECT_THAT(Index()[0], HasSubstr("first/1 UNAVAILABLE"));
  EXPECT_THAT(shutdown.get(), IsOk());
}

TEST_F(RepositoryCallsTest, NobodyLoadsWhereItIsNotAllowed) {
  Start(/*allow_model_control=*/false);
  const grpc::Status status = Load("second");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), HasSubstr("--allow-model-control"));
  grpc::ClientContext context;
  inference::LogSettingsRequest log;
  (*log.mutable_settings())["log_info"].set_bool_param(true);
  inference::LogSettingsResponse response;
  EXPECT_EQ(stub_->LogSettings(&context, log, &response).error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

}  // namespace
}  // namespace headlight
