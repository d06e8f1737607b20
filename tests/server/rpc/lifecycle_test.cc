// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/lifecycle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "server/rpc/health_service.h"
#include "server/schedule/clock.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;

// Around a server of nothing but health.
class LifecycleTest : public ::testing::Test {
 protected:
  std::unique_ptr<grpc::Server> Listen() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&health_);
    return builder.BuildAndStart();
  }

  CallLedger ledger_;
  HealthBoard board_;
  Gate gate_;
  HealthService health_{board_, gate_};
  int port_ = 0;
  const std::unique_ptr<grpc::Server> server_ = Listen();
  SteadyClock clock_;
  ConnectionBook connections_{{.in_all = 1, .per_address = 1}, clock_};
  Listener listener_{ListenSockets(), connections_, [](int) {}};  // of nothing
  Lifecycle lifecycle_{*server_, board_, ledger_, listener_, connections_, {"service"}};
};

TEST_F(LifecycleTest, NothingServesBeforeItServes) {
  lifecycle_.SetHealth("models/a", true);
  EXPECT_EQ(board_.Get(""), Health::kNotServing);
  EXPECT_EQ(board_.Get("service"), Health::kNotServing);
  EXPECT_EQ(board_.Get("models/a"), Health::kUnknown);
  lifecycle_.Serve();
  EXPECT_EQ(board_.Get("models/a"), Health::kServing);
  EXPECT_EQ(board_.Get(""), Health::kServing);
}

TEST_F(LifecycleTest, AModelThatComputesWronglyDoesNotServe) {
  lifecycle_.SetHealth("models/a", true);
  lifecycle_.SetHealth("models/b", true);
  lifecycle_.Serve();
  lifecycle_.SetRight("models/a", false);
  EXPECT_EQ(board_.Get("models/a"), Health::kNotServing);
  EXPECT_EQ(board_.Get(""), Health::kServing);
  lifecycle_.SetHealth("models/a", true);  // its loader knows nothing of it
  EXPECT_EQ(board_.Get("models/a"), Health::kNotServing);
  lifecycle_.SetRight("models/b", false);
  EXPECT_EQ(board_.Get(""), Health::kNotServing);
  lifecycle_.SetRight("models/a", true);
  EXPECT_EQ(board_.Get("models/a"), Health::kServing);
  EXPECT_EQ(board_.Get("service"), Health::kServing);
}

TEST_F(LifecycleTest, ADrainIsTheEndOfServing) {
  lifecycle_.SetHealth("models/a", true);
  lifecycle_.Serve();
  EXPECT_THAT(lifecycle_.Drain({}), IsOk());
  lifecycle_.SetHealth("models/a", true);
  lifecycle_.SetRight("models/a", true);
  EXPECT_EQ(board_.Get("models/a"), Health::kNotServing);
  EXPECT_EQ(board_.Get(""), Health::kNotServing);
}

}  // namespace
}  // namespace headlight
