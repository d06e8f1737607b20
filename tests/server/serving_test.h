// SPDX-License-Identifier: Apache-2.0
//
// The service over a real channel, with a computation that fails, waits or answers zeros as a test needs it.
#ifndef HEADLIGHT_TESTS_SERVER_SERVING_TEST_H_
#define HEADLIGHT_TESTS_SERVER_SERVING_TEST_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>

#include "server/rpc/attention_service.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/schedule/fake_executor.h"
#include "tests/testing/status_matchers.h"

namespace headlight::testing {

// More than any of this takes; only a broken service waits so long.
inline constexpr std::chrono::seconds kServingPatience{30};

// Holds a model "small" of MakeTestModel.
class ServingTest : public ::testing::Test {
 protected:
  explicit ServingTest(int64_t queue_max_requests)
      : scheduler_({/*max_batch_tokens=*/100, queue_max_requests, /*queue_max_bytes=*/1 << 20}, executor_,
                   clock_) {}

  void SetUp() override {
    ASSERT_THAT(registry_.Add(MakeTestModel("small").loaded), IsOk());
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    channel_ = server_->InProcessChannel({});
    stub_ = v1::AttentionService::NewStub(channel_);
  }

  void TearDown() override { server_->Shutdown(std::chrono::system_clock::now()); }

  SteadyClock clock_;
  ModelRegistry registry_;
  FakeExecutor executor_;
  Scheduler scheduler_;
  AttentionService service_{
      {registry_, scheduler_, clock_, /*max_message_bytes=*/1 << 20, /*compute_threads=*/3}};
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::AttentionService::Stub> stub_;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_SERVING_TEST_H_
