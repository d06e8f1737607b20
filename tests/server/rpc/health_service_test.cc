// SPDX-License-Identifier: Apache-2.0
//
// Watchers over a real channel; who may see what is in tokens_test.cc.
#include "server/rpc/health_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace headlight {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

class HealthServiceTest : public ::testing::Test {
 protected:
  HealthServiceTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    stub_ = grpc::health::v1::Health::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(port_), grpc::InsecureChannelCredentials()));
  }
  ~HealthServiceTest() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> Watch(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    HealthCheckRequest request;
    request.set_service("models/a");
    return stub_->Watch(&context, request);
  }

  HealthBoard board_;
  Gate gate_;
  HealthService service_{board_, gate_};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::health::v1::Health::Stub> stub_;
};

TEST_F(HealthServiceTest, AWatcherHearsOfWhatIsNotThereYet) {
  grpc::ClientContext context;
  const auto watch = Watch(context);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  board_.Set("models/a", true);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  board_.Close();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(HealthServiceTest, WhoReadsNothingHearsTheLatestInTheEnd) {
  grpc::ClientContext context;
  const auto watch = Watch(context);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  for (int i = 0; i < 20'000; ++i) board_.Set("models/a", i % 2 == 0);
  board_.Close();
  board_.Set("models/a", true);  // which is not serving, once it is closed
  std::atomic<int> num_read = 0;
  std::thread ends([&] {
    int read_before = -1;
    while (num_read > read_before) {  // until there is nothing new for a second
      read_before = num_read;
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    context.TryCancel();
  });
  while (watch->Read(&response)) ++num_read;
  ends.join();
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_LT(num_read.load(), 20'000);
}

TEST_F(HealthServiceTest, ALongNameIsNotKeptForAWatcher) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  HealthCheckRequest request;
  request.set_service(std::string(3000, 'a'));
  const auto watch = stub_->Watch(&context, request);
  HealthCheckResponse response;
  EXPECT_FALSE(watch->Read(&response));
  const grpc::Status status = watch->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "got a request of 3003 bytes, wanted at most 2048");
}

TEST_F(HealthServiceTest, WhoIsRefusedMayHangUp) {
  for (int i = 0; i < 500; ++i) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(std::string(5'000, 'a'));
    const auto watch = stub_->Watch(&context, request);
    if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
    context.TryCancel();
    EXPECT_NE(watch->Finish().error_code(), grpc::StatusCode::OK);
  }
}

TEST_F(HealthServiceTest, WatchersComeAndGoWhileStatesChange) {
  std::vector<std::thread> watchers;
  for (int i = 0; i < 4; ++i) {
    watchers.emplace_back([this] {
      for (int n = 0; n < 50; ++n) {
        grpc::ClientContext context;
        const auto watch = Watch(context);
        HealthCheckResponse response;
        EXPECT_TRUE(watch->Read(&response));
        context.TryCancel();
        watch->Finish();
      }
    });
  }
  for (int i = 0; i < 5000; ++i) board_.Set("models/a", i % 2 == 0);
  for (std::thread& watcher : watchers) watcher.join();
  EXPECT_EQ(board_.Get("models/a"), Health::kNotServing);
}

TEST_F(HealthServiceTest, AServerThatShutsDownEndsWatchers) {
  grpc::ClientContext context;
  const auto watch = Watch(context);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  server_->Shutdown(std::chrono::system_clock::now());
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_FALSE(watch->Finish().ok());
}

}  // namespace
}  // namespace headlight
