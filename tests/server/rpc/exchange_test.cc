// SPDX-License-Identifier: Apache-2.0
//
// Unary exchanges over a real channel, with a computation that fails, waits or answers zeros as a test needs
// it.
#include "server/rpc/exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "headlight/v1/metadata.h"
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

class ExchangeTest : public testing::ServingTest {
 protected:
  ExchangeTest() : ServingTest(/*queue_max_requests=*/1) {}

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

TEST_F(ExchangeTest, AnAnnouncedMessageBeyondTheLargestIsRefusedFromTheHeaders) {
  auto call = std::make_unique<PendingCall>();
  call->request = Request();
  call->context.AddMetadata("headlight-message-bytes", "2000000");
  Start(*call);
  ExpectStatus(call->status.get(), grpc::StatusCode::RESOURCE_EXHAUSTED,
               "got a message of 2000000 bytes, wanted at most 1048576");
  EXPECT_EQ(memory_.held(), 0);
}

TEST_F(ExchangeTest, AnAnnouncedMessageHasItsMemoryBeforeItComes) {
  const std::optional<Lease> others =
      memory_.TryReserve(MemoryKind::kQueue, memory_.limit_of_requests() - 500'000);
  auto refused = std::make_unique<PendingCall>();
  refused->request = Request();
  refused->context.AddMetadata("headlight-message-bytes", "600000");
  Start(*refused);
  ExpectStatus(refused->status.get(), grpc::StatusCode::RESOURCE_EXHAUSTED, "600000");
  auto fits = std::make_unique<PendingCall>();
  fits->request = Request();
  fits->context.AddMetadata("headlight-message-bytes", "400000");
  Start(*fits);
  EXPECT_TRUE(fits->status.get().ok());
}

TEST_F(ExchangeTest, AnAnnouncementThatIsNoNumberIsNone) {
  for (const char* const text : {"", "-1", "many", "99999999999999999999"}) {
    auto call = std::make_unique<PendingCall>();
    call->request = Request();
    call->context.AddMetadata("headlight-message-bytes", text);
    Start(*call);
    EXPECT_TRUE(call->status.get().ok()) << text;
  }
}

TEST_F(ExchangeTest, RepliesWithTheCallersIdAndTheTimeBudget) {
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

TEST_F(ExchangeTest, AFullQueueIsResourceExhausted) {
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

TEST_F(ExchangeTest, WhileDrainingNewCallsAreUnavailableAndAcceptedOnesFinish) {
  auto [running, release] = Occupy();
  scheduler_.StopAccepting();
  ExpectStatus(Begin(Request())->status.get(), grpc::StatusCode::UNAVAILABLE, "the server is shutting down");
  EXPECT_FALSE(ledger().WaitUntilIdle(std::chrono::seconds(0)));
  release.set_value();
  EXPECT_TRUE(running->status.get().ok());
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
}

TEST_F(ExchangeTest, AnInternalErrorNamesTheRequest) {
  executor_.set_error(absl::InternalError("a broken invariant"));
  v1::AttendRequest request = Request();
  request.set_request_id("mine");
  ExpectStatus(Begin(request)->status.get(), grpc::StatusCode::INTERNAL,
               "a broken invariant (request id \"mine\")");
  ExpectStatus(Begin(Request())->status.get(), grpc::StatusCode::INTERNAL, "(request id #");
  executor_.set_error(absl::OkStatus());
  ExpectServes();
}

TEST_F(ExchangeTest, EveryRequestIsToldOnceWhateverBecameOfIt) {
  v1::AttendRequest request = Request();
  request.set_request_id("mine");
  ASSERT_TRUE(Begin(request)->status.get().ok());
  executor_.set_error(absl::ResourceExhaustedError("memory is short"));
  Begin(request)->status.get();
  executor_.set_error(absl::OkStatus());
  Begin(MakeRequest("small", {1, 2, 15}))->status.get();
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  const std::vector<RequestRecord> records = told_.records();
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].method, "Attend");
  EXPECT_EQ(records[0].request_id, "mine");
  EXPECT_EQ(records[0].model, "small");
  EXPECT_EQ(records[0].version, "1");
  EXPECT_EQ(records[0].tokens, 2);
  EXPECT_EQ(records[0].batch_requests, 1);
  EXPECT_GT(records[0].bytes_in, 2 * 16 * 4);
  EXPECT_GT(records[0].bytes_out, 2 * 16 * 4);
  EXPECT_EQ(records[0].code, absl::StatusCode::kOk);
  EXPECT_EQ(records[1].code, absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(records[1].reason, "memory");
  EXPECT_EQ(records[2].code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(records[2].version, "1");
}

TEST_F(ExchangeTest, WhatIsRefusedFromItsHeadersIsToldToo) {
  scheduler_.StopAccepting();
  Begin(Request())->status.get();
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  ASSERT_EQ(told_.records().size(), 1u);
  EXPECT_EQ(told_.records()[0].method, "Attend");
  EXPECT_EQ(told_.records()[0].code, absl::StatusCode::kUnavailable);
  EXPECT_EQ(told_.records()[0].reason, "draining");
}

TEST_F(ExchangeTest, ARequestHasASpanOfItsOwnInTheCallersTrace) {
  const std::string trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
  const std::string span = "00f067aa0ba902b7";
  const auto answered_with = [&](const std::vector<std::string>& headers) {
    auto call = std::make_unique<PendingCall>();
    call->request = Request();
    for (const std::string& header : headers) call->context.AddMetadata("traceparent", header);
    Start(*call);
    EXPECT_TRUE(call->status.get().ok());
  };
  answered_with({trace + span + "-01"});
  answered_with({trace + span + "-01"});
  answered_with({trace + span + "-01", trace + span + "-01"});
  answered_with({"nonsense"});
  answered_with({});
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  const std::vector<RequestRecord> records = told_.records();
  ASSERT_EQ(records.size(), 5u);
  for (int i : {0, 1}) {
    EXPECT_EQ(records[i].parent_span, span);
    EXPECT_THAT(records[i].traceparent,
                ::testing::AllOf(::testing::StartsWith(trace), ::testing::EndsWith("-01"),
                                 ::testing::Not(HasSubstr(span))));
  }
  EXPECT_NE(records[0].traceparent, records[1].traceparent);
  for (int i : {2, 3, 4}) {
    EXPECT_EQ(records[i].traceparent, "");
    EXPECT_EQ(records[i].parent_span, "");
  }
}

TEST_F(ExchangeTest, ShortMemoryIsResourceExhaustedAndPasses) {
  executor_.set_error(absl::ResourceExhaustedError("memory is short"));
  ExpectStatus(Begin(Request())->status.get(), grpc::StatusCode::RESOURCE_EXHAUSTED, "memory is short");
  executor_.set_error(absl::OkStatus());
  ExpectServes();
}

TEST_F(ExchangeTest, ACancelledCallIsNotComputed) {
  auto [running, release] = Occupy();
  auto cancelled = Begin(Request());
  WaitForCalls(2);
  cancelled->context.TryCancel();
  EXPECT_EQ(cancelled->status.get().error_code(), grpc::StatusCode::CANCELLED);
  // The server hears of it on a thread of its own.
  WaitForCalls(1);
  const auto next = Begin(Request());
  WaitForCalls(2);
  release.set_value();
  EXPECT_TRUE(running->status.get().ok());
  EXPECT_TRUE(next->status.get().ok());
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  ASSERT_EQ(executor_.batches().size(), 2u);
  EXPECT_EQ(executor_.batches()[1].size(), 1u);
}

TEST_F(ExchangeTest, ACallPastItsDeadlineIsNotComputed) {
  auto [running, release] = Occupy();
  PendingCall hurried;
  hurried.request = Request();
  hurried.context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  Start(hurried);
  EXPECT_EQ(hurried.status.get().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  release.set_value();
  EXPECT_TRUE(running->status.get().ok());
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  EXPECT_EQ(executor_.batches().size(), 1u);
}

TEST_F(ExchangeTest, ARequestThatNeverFitsSaysBothNumbersAndIsNoBusinessOfWaiting) {
  const Lease most = *memory_.TryReserve(MemoryKind::kModel, memory_.limit() - (4 << 20));
  auto call = Begin(MakeRequest("small", {1, 15'000, 16}));
  const grpc::Status status = call->status.get();
  ExpectStatus(status, grpc::StatusCode::INVALID_ARGUMENT, "bytes that an empty server has for requests");
  EXPECT_EQ(call->context.GetServerTrailingMetadata().count(v1::kPushbackTrailer), 0u);
  ExpectServes();
}

TEST_F(ExchangeTest, ShortOfMemoryItSaysWhenToComeAgain) {
  {
    const Lease others = *memory_.TryReserve(MemoryKind::kReply, memory_.limit() - 1000);
    auto call = Begin(Request());
    ExpectStatus(call->status.get(), grpc::StatusCode::RESOURCE_EXHAUSTED, "bytes");
    EXPECT_EQ(call->context.GetServerTrailingMetadata().count(v1::kPushbackTrailer), 1u);
    const auto reason = call->context.GetServerTrailingMetadata().find(v1::kReasonTrailer);
    ASSERT_NE(reason, call->context.GetServerTrailingMetadata().end());
    EXPECT_EQ(reason->second, kReasonMemory);
    EXPECT_NE(call->context.GetServerTrailingMetadata().find("grpc-status-details-bin"),
              call->context.GetServerTrailingMetadata().end());
  }
  ExpectServes();
}

TEST_F(ExchangeTest, WhatEndsGivesItsMemoryBack) {
  ExpectServes();
  executor_.set_error(absl::InternalError("a broken invariant"));
  Begin(Request())->status.get();
  executor_.set_error(absl::OkStatus());
  Begin(MakeRequest("none", {1, 2, 16}))->status.get();
  scheduler_.WaitUntilIdle();  // whose answer has arrived may still count as unfinished
  {
    auto [running, release] = Occupy();
    auto cancelled = Begin(Request());
    WaitForCalls(2);
    EXPECT_GT(memory_.Held(MemoryKind::kQueue), 0);
    cancelled->context.TryCancel();
    cancelled->status.get();
    release.set_value();
    running->status.get();
  }
  EXPECT_TRUE(ledger().WaitUntilIdle(testing::kServingPatience));
  EXPECT_EQ(memory_.held(), 0);
}

TEST_F(ExchangeTest, ACallBeforeTheServerServesIsUnavailable) {
  CallLedger starting;
  class Entry final : public LedgerEntry {
    void End() override {}
    void EndIfUnread(TimePoint) override {}
  } entry;
  const auto refusal = starting.Add(entry);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->status.code(), absl::StatusCode::kUnavailable);
  EXPECT_GT(refusal->retry_after_us, 0);
  starting.Open();
  EXPECT_FALSE(starting.Add(entry).has_value());
  starting.Remove(entry);
  starting.EndAll();
  EXPECT_EQ(starting.Add(entry)->reason, kReasonDraining);
}

TEST_F(ExchangeTest, ATimeoutOfTheRequestsOwnEndsIt) {
  auto [running, release] = Occupy();
  v1::AttendRequest hurried = Request();
  hurried.set_timeout_us(50'000);
  ExpectStatus(Begin(hurried)->status.get(), grpc::StatusCode::DEADLINE_EXCEEDED, "");
  release.set_value();
  EXPECT_TRUE(running->status.get().ok());
}

TEST_F(ExchangeTest, ATimeoutBeyondAllTimeIsNone) {
  v1::AttendRequest request = Request();
  request.set_timeout_us(std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(Begin(request)->status.get().ok());
}

}  // namespace
}  // namespace headlight
