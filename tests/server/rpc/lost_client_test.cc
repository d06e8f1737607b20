// SPDX-License-Identifier: Apache-2.0
//
// Clients that die or do not read, for a unary call and for a stream: others are served, and nothing that the
// lost ones held is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/serving_test.h"
#include "tests/testing/relay.h"

namespace headlight {
namespace {

using testing::MakeRequest;

// The parameter says whether it is a stream.
class LostClientTest : public testing::ServingTest, public ::testing::WithParamInterface<bool> {
 protected:
  LostClientTest() : ServingTest(/*queue_max_requests=*/100) {}

  void SetUp() override {
    ServingTest::SetUp();
    relay_ = std::make_unique<testing::Relay>(port_);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // or else its receive window would be megabytes
    lost_stub_ = v1::AttentionService::NewStub(grpc::CreateCustomChannel(
        absl::StrCat("127.0.0.1:", relay_->port()), grpc::InsecureChannelCredentials(), arguments));
    context_.set_deadline(std::chrono::system_clock::now() + testing::kServingPatience);
  }

  void TearDown() override {
    relay_->Cut();
    if (lost_.valid()) lost_.wait();
    ServingTest::TearDown();
  }

  // One request through the relay, in the background.
  void Begin(const v1::AttendRequest& request) {
    lost_ = std::async(std::launch::async, [this, request] {
      v1::AttendResponse response;
      if (!GetParam()) {
        lost_stub_->Attend(&context_, request, &response);
        return;
      }
      const auto stream = lost_stub_->AttendStream(&context_);
      stream->Write(request);
      stream->Read(&response);
      stream->WritesDone();
      stream->Finish();
    });
  }

  void ExpectServesOthers() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + testing::kServingPatience);
    v1::AttendResponse response;
    const grpc::Status status = stub_->Attend(&context, MakeRequest("small", {1, 2, 16}), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  void ExpectNothingIsLeft() {
    EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
    scheduler_.Drain();
    EXPECT_EQ(scheduler_.num_unfinished(), 0);
    WaitUntil([this] { return memory_.held() == 0; });
  }

  std::unique_ptr<testing::Relay> relay_;
  std::unique_ptr<v1::AttentionService::Stub> lost_stub_;
  grpc::ClientContext context_;
  std::future<void> lost_;
};

TEST_P(LostClientTest, KilledWhileItsRequestIsComputed) {
  auto [entered, release] = executor_.HoldNextBatch();
  Begin(MakeRequest("small", {1, 2, 16}));
  entered.wait();
  relay_->Cut();
  lost_.wait();
  release.set_value();
  ExpectNothingIsLeft();
  EXPECT_EQ(told_.records().size(), 1u);
}

TEST_P(LostClientTest, KilledHalfWayThroughItsMessage) {
  relay_->LimitToServer(200'000);
  Begin(MakeRequest("small", {1, 10'000, 16}));            // 640,000 bytes
  WaitUntil([this] { return memory_.held() > 100'000; });  // they are counted while they arrive
  ExpectServesOthers();
  relay_->Cut();
  lost_.wait();
  ExpectNothingIsLeft();
  EXPECT_EQ(told_.records().size(), 1u);  // the other's
}

TEST_P(LostClientTest, DoesNotReadItsReply) {
  auto [entered, release] = executor_.HoldNextBatch();
  Begin(MakeRequest("small", {1, 10'000, 16}));  // whose reply is larger than the client's receive window
  entered.wait();
  relay_->StopToClient();
  release.set_value();
  WaitUntil([this] { return told_.records().size() == 1; });
  ExpectServesOthers();
  WaitUntil([this] { return ledger().num_calls() == 1; });  // the other's has gone
  WaitUntil([this] {
    ledger().EndUnread(clock_.Now());
    return ledger().num_calls() == 0;
  });
  ExpectNothingIsLeft();
}

INSTANTIATE_TEST_SUITE_P(UnaryAndStream, LostClientTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Stream" : "Unary"; });

}  // namespace
}  // namespace headlight
