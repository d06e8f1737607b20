// SPDX-License-Identifier: Apache-2.0
//
// AttendStream over a real channel, with a computation that waits or fails as a test needs it.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "tests/server/attend_fixtures.h"
#include "tests/server/serving_test.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;

class ExchangeStreamTest : public testing::ServingTest {
 protected:
  ExchangeStreamTest() : ServingTest(/*queue_max_requests=*/100) {}

  using Stream = grpc::ClientReaderWriter<v1::AttendRequest, v1::AttendResponse>;

  std::unique_ptr<Stream> Open(std::chrono::milliseconds deadline = testing::kServingPatience) {
    context_ = std::make_unique<grpc::ClientContext>();
    context_->set_deadline(std::chrono::system_clock::now() + deadline);
    return stub_->AttendStream(context_.get());
  }

  static v1::AttendRequest Request(const std::string& id, const std::string& model = "small") {
    v1::AttendRequest request = testing::MakeRequest(model, {1, 2, 16});
    request.set_request_id(id);
    return request;
  }

  std::unique_ptr<grpc::ClientContext> context_;
};

TEST_F(ExchangeStreamTest, AnswersEveryRequestWithItsId) {
  constexpr int kRequests = 200;  // many times what may be unanswered
  auto stream = Open();
  std::thread writer([&] {
    for (int i = 0; i < kRequests; ++i) EXPECT_TRUE(stream->Write(Request(std::to_string(i))));
    EXPECT_TRUE(stream->WritesDone());
  });
  std::set<std::string> ids;
  v1::AttendResponse response;
  while (stream->Read(&response)) {
    ids.insert(response.request_id());
    EXPECT_FALSE(response.has_error()) << response.error().message();
    EXPECT_EQ(response.model(), "small");
    EXPECT_EQ(response.output().shape_size(), 3);
    ASSERT_EQ(response.payloads_size(), 1);
    EXPECT_EQ(response.payloads(0).size(), 2 * 16 * sizeof(float));
    EXPECT_EQ(response.time_budget().compute_threads(), 3);
  }
  writer.join();
  EXPECT_EQ(ids.size(), size_t{kRequests});
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
}

TEST_F(ExchangeStreamTest, AStreamWithoutRequestsIsOk) {
  auto stream = Open();
  EXPECT_TRUE(stream->WritesDone());
  v1::AttendResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
}

// Nothing of it stays: LeakSanitizer looks.
TEST_F(ExchangeStreamTest, OneThatHasWaitedForMemoryGoesOnWhenThereIsSome) {
  std::unique_ptr<Stream> stream;
  {
    const Lease others = *memory_.TryReserve(MemoryKind::kReply, memory_.limit() - 1000);
    stream = Open();
    WaitUntil([&] { return memory_.IsAwaited(); });
  }
  v1::AttendResponse response;
  ASSERT_TRUE(stream->Write(Request("patient")));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.request_id(), "patient");
  EXPECT_TRUE(stream->WritesDone());
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
}

TEST_F(ExchangeStreamTest, ARequestThatFailsLeavesTheStreamAlone) {
  auto stream = Open();
  v1::AttendResponse response;
  ASSERT_TRUE(stream->Write(Request("wrong", "none")));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.request_id(), "wrong");
  EXPECT_EQ(response.error().code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(response.error().message(), HasSubstr("model: no model \"none\""));
  EXPECT_FALSE(response.has_output());

  executor_.set_error(absl::InternalError("a broken invariant"));
  ASSERT_TRUE(stream->Write(Request("unlucky")));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.error().code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(response.error().message(), HasSubstr("a broken invariant (request id \"unlucky\")"));

  executor_.set_error(absl::OkStatus());
  ASSERT_TRUE(stream->Write(Request("right")));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.request_id(), "right");
  EXPECT_FALSE(response.has_error());
  EXPECT_TRUE(stream->WritesDone());
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ExchangeStreamTest, RepliesDoNotWaitForEarlierRequests) {
  auto [entered, release] = executor_.HoldNextBatch();
  auto stream = Open();
  ASSERT_TRUE(stream->Write(Request("slow")));
  entered.wait();
  ASSERT_TRUE(stream->Write(Request("refused", "none")));
  v1::AttendResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.request_id(), "refused");
  release.set_value();
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.request_id(), "slow");
}

TEST_F(ExchangeStreamTest, ReadsNoMoreThanItsLimitAhead) {
  auto [entered, release] = executor_.HoldNextBatch();
  auto stream = Open();
  std::thread writer([&] {
    for (int i = 0; i < 3 * kMaxStreamRequests; ++i) {
      EXPECT_TRUE(stream->Write(Request(std::to_string(i))));
    }
    stream->WritesDone();
  });
  entered.wait();
  WaitForCalls(kMaxStreamRequests);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // time to do wrong
  EXPECT_EQ(scheduler_.num_unfinished(), kMaxStreamRequests);
  release.set_value();
  int replies = 0;
  v1::AttendResponse response;
  while (stream->Read(&response)) ++replies;
  writer.join();
  EXPECT_EQ(replies, 3 * kMaxStreamRequests);
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ExchangeStreamTest, CancellationTakesTheRequestsUnderWayAlong) {
  auto [entered, release] = executor_.HoldNextBatch();
  auto stream = Open();
  ASSERT_TRUE(stream->Write(Request("running")));
  entered.wait();
  ASSERT_TRUE(stream->Write(Request("waiting")));
  ASSERT_TRUE(stream->Write(Request("waiting too")));
  WaitForCalls(3);
  context_->TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  WaitForCalls(1);  // the server hears of it on a thread of its own
  release.set_value();
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  EXPECT_EQ(executor_.batches().size(), 1u);
}

TEST_F(ExchangeStreamTest, TheDeadlineOfTheStreamIsThatOfItsRequests) {
  auto [entered, release] = executor_.HoldNextBatch();
  auto stream = Open(std::chrono::seconds(1));
  ASSERT_TRUE(stream->Write(Request("running")));
  ASSERT_EQ(entered.wait_for(testing::kServingPatience), std::future_status::ready);
  ASSERT_TRUE(stream->Write(Request("waiting")));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  release.set_value();
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  EXPECT_EQ(executor_.batches().size(), 1u);
}

TEST_F(ExchangeStreamTest, AShutdownAnswersWhatWasReadAndEndsStreams) {
  auto [entered, release] = executor_.HoldNextBatch();
  auto stream = Open();
  ASSERT_TRUE(stream->Write(Request("accepted")));
  entered.wait();
  scheduler_.StopAccepting();
  ledger().EndAll();
  EXPECT_FALSE(ledger().WaitUntilIdle(std::chrono::seconds(0)));
  release.set_value();
  v1::AttendResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.request_id(), "accepted");
  EXPECT_FALSE(response.has_error());
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("the server is shutting down"));
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
}

TEST_F(ExchangeStreamTest, AfterAShutdownNewStreamsEndAtOnceAndIdleOnesToo) {
  auto idle = Open();
  ASSERT_TRUE(idle->Write(Request("first")));
  v1::AttendResponse response;
  ASSERT_TRUE(idle->Read(&response));
  const std::unique_ptr<grpc::ClientContext> context_of_idle = std::move(context_);
  ledger().EndAll();
  EXPECT_FALSE(idle->Read(&response));
  EXPECT_EQ(idle->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  auto late = Open();
  EXPECT_FALSE(late->Read(&response));
  EXPECT_EQ(late->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ExchangeStreamTest, BytesThatAreNoRequestEndTheStream) {
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + testing::kServingPatience);
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  const auto call = stub.PrepareCall(&context, "/headlight.v1.AttentionService/AttendStream", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  const grpc::Slice slice("\xff\xff\xff");
  call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  grpc::Status status;
  call->Finish(&status, nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

}  // namespace
}  // namespace headlight
