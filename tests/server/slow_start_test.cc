// SPDX-License-Identifier: Apache-2.0
//
// A server whose models take long to come: there from the beginning, and honest about it.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>

#include "core/checkpoint/folder.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "server/server.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/loopback.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using grpc::health::v1::HealthCheckResponse;
using testing::IsOk;
using testing::MakeRequest;

constexpr std::chrono::seconds kStartPatience{60};

TEST(SlowStartTest, ThePortIsOpenAndSaysNotServingWhileAModelLoads) {
  const testing::TempFolder folder;
  ModelConfig config;
  config.block.attention.embed_dim = 8;
  config.block.attention.num_heads = 2;
  config = config.Resolved();
  ASSERT_THAT(SaveModelFolder(folder.File("slow"), config, RandomModelParameters(config, 1)), IsOk());
  ServerOptions options;
  options.listen = "127.0.0.1:" + std::to_string(testing::FreePort());
  options.admin_listen.clear();
  options.threads = 1;
  options.model_repository = folder.path();
  std::promise<std::string> loading;
  std::promise<void> go_on;
  auto start = std::async(std::launch::async, [&] {
    return HeadlightServer::Start(options, nullptr, nullptr, [&](const std::string& model) {
      loading.set_value(model);
      go_on.get_future().wait();
    });
  });
  EXPECT_EQ(loading.get_future().get(), "slow");

  const auto channel = grpc::CreateChannel(options.listen, grpc::InsecureChannelCredentials());
  const auto health = [&] {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kStartPatience);
    HealthCheckResponse response;
    const grpc::Status status = grpc::health::v1::Health::NewStub(channel)->Check(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.status();
  };
  const auto attend = [&] {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kStartPatience);
    v1::AttendResponse response;
    const auto stub = v1::AttentionService::NewStub(channel);
    return stub->Attend(&context, MakeRequest("slow", {1, 2, 8}), &response).error_code();
  };
  EXPECT_EQ(health(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(attend(), grpc::StatusCode::UNAVAILABLE);

  go_on.set_value();
  const auto server = start.get();
  ASSERT_THAT(server, IsOk());
  EXPECT_EQ(health(), HealthCheckResponse::SERVING);
  EXPECT_EQ(attend(), grpc::StatusCode::OK);
  EXPECT_TRUE((*server)->Turns());
}

}  // namespace
}  // namespace headlight
