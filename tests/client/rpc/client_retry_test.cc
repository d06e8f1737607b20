// SPDX-License-Identifier: Apache-2.0
//
// Clients whose server refuses, stalls and comes back: retries, callbacks, cancellation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "client/client.h"
#include "tests/client/fake_server.h"
#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using SteadyClock = std::chrono::steady_clock;

const Tensor& SmallQuery() {
  static const Tensor query{.shape = {1, 1, 4}, .values = {1, 2, 3, 4}};
  return query;
}

ClientOptions Hasty(int max_attempts = 4) {
  return {.retry = {.max_attempts = max_attempts, .initial_backoff = 5ms, .max_backoff = 20ms}};
}

// Refuses `times` times with `code`, and with a pushback unless that is empty; then echoes.
FakeServer::AttendHandler Refusing(int times, grpc::StatusCode code, const std::string& pushback = "") {
  auto left = std::make_shared<std::atomic<int>>(times);
  return [=](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
    if (left->fetch_sub(1) <= 0) return FakeServer::Echo(context, request, response);
    if (!pushback.empty()) context.AddTrailingMetadata("grpc-retry-pushback-ms", pushback);
    context.AddTrailingMetadata("headlight-reason", "memory");
    return grpc::Status(code, "not now");
  };
}

TEST(ClientRetryTest, UnavailableIsTriedAgain) {
  FakeServer server(Refusing(3, grpc::StatusCode::UNAVAILABLE));
  const auto reply = Client::Create(server.target(), Hasty())->Attend({.query = SmallQuery().View()}, 30s);
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->output.values, SmallQuery().values);
  EXPECT_THAT(server.requests(), SizeIs(4));
}

TEST(ClientRetryTest, TheLastAttemptsErrorIsTold) {
  FakeServer server(Refusing(100, grpc::StatusCode::UNAVAILABLE));
  EXPECT_THAT(Client::Create(server.target(), Hasty(3))->Attend({.query = SmallQuery().View()}, 30s),
              StatusIs(absl::StatusCode::kUnavailable, "not now"));
  EXPECT_THAT(server.requests(), SizeIs(3));
}

TEST(ClientRetryTest, OneAttemptMeansNoRetry) {
  FakeServer server(Refusing(1, grpc::StatusCode::UNAVAILABLE));
  EXPECT_THAT(Client::Create(server.target(), Hasty(1))->Attend({.query = SmallQuery().View()}, 30s),
              StatusIs(absl::StatusCode::kUnavailable, "not now"));
  EXPECT_THAT(server.requests(), SizeIs(1));
}

TEST(ClientRetryTest, ExhaustedResourcesAreFinalWithoutPushback) {
  FakeServer server(Refusing(1, grpc::StatusCode::RESOURCE_EXHAUSTED));
  EXPECT_THAT(Client::Create(server.target(), Hasty())->Attend({.query = SmallQuery().View()}, 30s),
              StatusIs(absl::StatusCode::kResourceExhausted, "not now"));
  EXPECT_THAT(server.requests(), SizeIs(1));
}

TEST(ClientRetryTest, APushbackIsWaitedFor) {
  FakeServer server(Refusing(2, grpc::StatusCode::RESOURCE_EXHAUSTED, "60"));
  const auto begin = SteadyClock::now();
  EXPECT_THAT(Client::Create(server.target(), Hasty())->Attend({.query = SmallQuery().View()}, 30s), IsOk());
  EXPECT_GE(SteadyClock::now() - begin, 120ms);  // far more than the backoff of 5 and 10 ms
  EXPECT_THAT(server.requests(), SizeIs(3));
}

// So that what an attempt may take is not spent on connecting.
void Connect(const Client& client) { ASSERT_THAT(client.ListModels(20s), IsOk()); }

// What ends an attempt that is silent for too long says nothing of the pause after one that was answered.
TEST(ClientRetryTest, APauseIsNoSilence) {
  FakeServer server(Refusing(2, grpc::StatusCode::RESOURCE_EXHAUSTED, "300"));
  const auto client = Client::Create(
      server.target(), {.retry = {.attempt_timeout = 150ms, .budget_ratio = 0, .budget_reserve = 2}});
  Connect(*client);
  EXPECT_THAT(client->Attend({.query = SmallQuery().View()}, 30s), IsOk());
  EXPECT_EQ(client->num_retries(), 2);
}

TEST(ClientRetryTest, ANegativePushbackForbidsRetries) {
  for (const std::string pushback : {"-1", "soon"}) {
    for (const auto code : {grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::UNAVAILABLE}) {
      FakeServer server(Refusing(1, code, pushback));
      EXPECT_THAT(Client::Create(server.target(), Hasty())->Attend({.query = SmallQuery().View()}, 30s),
                  StatusIs(static_cast<absl::StatusCode>(code), "not now"));
      EXPECT_THAT(server.requests(), SizeIs(1)) << pushback;
    }
  }
}

TEST(ClientRetryTest, ARefusalSaysWhyAndWhenToComeAgain) {
  FakeServer server(Refusing(1, grpc::StatusCode::RESOURCE_EXHAUSTED, "3600000"));
  const auto reply = Client::Create(server.target(), Hasty())->Attend({.query = SmallQuery().View()}, 30s);
  EXPECT_THAT(reply, StatusIs(absl::StatusCode::kResourceExhausted, "not now"));
  EXPECT_EQ(RefusalOf(reply.status()).retry_delay, 1h);
  EXPECT_EQ(RefusalOf(reply.status()).reason, "memory");
  EXPECT_EQ(RefusalOf(absl::OkStatus()).retry_delay, 0ms);
}

// Is silent to the first `times` requests, until their caller goes away; then echoes. Notes how long the
// callers said that they would wait.
struct SilentServer {
  explicit SilentServer(int times) : silent(times) {}

  grpc::Status Handle(grpc::ServerContext& context, const v1::AttendRequest& request,
                      v1::AttendResponse& response) {
    {
      const std::lock_guard lock(mutex);
      patience.push_back(context.deadline() - std::chrono::system_clock::now());
    }
    return silent.fetch_sub(1) > 0 ? FakeServer::UntilCancelled(context, request, response)
                                   : FakeServer::Echo(context, request, response);
  }
  FakeServer::AttendHandler Handler() {
    return [this](auto& context, const auto& request, auto& response) {
      return Handle(context, request, response);
    };
  }

  std::atomic<int> silent;
  std::mutex mutex;
  std::vector<std::chrono::nanoseconds> patience;
};

TEST(ClientRetryTest, AnAttemptThatIsSilentIsGivenUpAndSentAgain) {
  SilentServer silent(2);
  FakeServer server(silent.Handler());
  const auto client =
      Client::Create(server.target(), {.retry = {.max_attempts = 4, .attempt_timeout = 200ms}});
  Connect(*client);
  EXPECT_THAT(client->Attend({.query = SmallQuery().View()}, 60s), IsOk());
  EXPECT_GE(server.requests().size(), 3u);  // one more if the third took over 200 ms on a busy machine
  // Servers are told of the deadline of the call, not of the attempt: they must not refuse what they could
  // answer in time.
  for (const auto patience : silent.patience) EXPECT_GT(patience, 30s);
}

TEST(ClientRetryTest, TheLastAttemptHasAllTheTimeThatIsLeft) {
  SilentServer silent(2);
  FakeServer server(silent.Handler());
  const auto client =
      Client::Create(server.target(), {.retry = {.max_attempts = 2, .attempt_timeout = 200ms}});
  Connect(*client);
  const auto begin = SteadyClock::now();
  EXPECT_THAT(client->Attend({.query = SmallQuery().View()}, 1s),
              StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::_));
  EXPECT_GE(SteadyClock::now() - begin, 1s);
  EXPECT_THAT(server.requests(), SizeIs(2));
}

TEST(ClientRetryTest, SilenceIsBorneUnlessAskedOtherwise) {
  SilentServer silent(1);
  FakeServer server(silent.Handler());
  const auto client = Client::Create(server.target(), Hasty());
  Connect(*client);
  EXPECT_THAT(client->Attend({.query = SmallQuery().View()}, 200ms),
              StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::_));
  EXPECT_THAT(server.requests(), SizeIs(1));
}

TEST(ClientRetryTest, ACallThatIsCancelledIsNotSentAgain) {
  SilentServer silent(100);
  FakeServer server(silent.Handler());
  const auto client =
      Client::Create(server.target(), {.retry = {.max_attempts = 100, .attempt_timeout = 100ms}});
  Connect(*client);
  std::promise<absl::Status> ended;
  const AttendHandle call =
      client->AttendAsync({.query = SmallQuery().View()}, 60s,
                          [&](absl::StatusOr<AttendReply> reply) { ended.set_value(reply.status()); });
  while (server.requests().size() < 2) std::this_thread::sleep_for(1ms);
  call.Cancel();
  EXPECT_EQ(ended.get_future().get().code(), absl::StatusCode::kCancelled);
}

TEST(ClientRetryTest, AllAttemptsShareOneDeadline) {
  FakeServer server(Refusing(1000, grpc::StatusCode::UNAVAILABLE));
  const auto client = Client::Create(
      server.target(), {.retry = {.max_attempts = 100, .initial_backoff = 2s, .max_backoff = 2s}});
  const auto begin = SteadyClock::now();
  // What the server said is told, not that our time ran out.
  EXPECT_THAT(client->Attend({.query = SmallQuery().View()}, 3s),
              StatusIs(absl::StatusCode::kUnavailable, "not now"));
  EXPECT_LT(SteadyClock::now() - begin, 15s);
  // Pauses of 1.6 to 2.4 s: the second attempt is over long before the deadline, the third would be after
  // it.
  EXPECT_LE(server.requests().size(), 2u);
}

TEST(ClientRetryTest, APushbackBeyondTheDeadlineIsNotWaitedFor) {
  FakeServer server(Refusing(1, grpc::StatusCode::RESOURCE_EXHAUSTED, "60000"));
  const auto begin = SteadyClock::now();
  EXPECT_THAT(Client::Create(server.target(), Hasty())->Attend({.query = SmallQuery().View()}, 20s),
              StatusIs(absl::StatusCode::kResourceExhausted, "not now"));
  EXPECT_LT(SteadyClock::now() - begin, 15s);
}

TEST(ClientRetryTest, LargeTensorsAreSentAgainInFull) {
  FakeServer server(Refusing(2, grpc::StatusCode::UNAVAILABLE));
  // 16 MiB; gRPC's own retries give up at 256 KiB.
  Tensor query{.shape = {4 << 20}, .values = std::vector<float>(4 << 20)};
  for (size_t i = 0; i < query.values.size(); ++i) query.values[i] = static_cast<float>(i);
  const auto reply = Client::Create(server.target(), Hasty())->Attend({.query = query.View()}, 60s);
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->output.values, query.values);
  EXPECT_THAT(server.requests(), SizeIs(3));
}

TEST(ClientAsyncTest, AClientGoesAfterItsCallbacks) {
  FakeServer server;
  absl::StatusOr<AttendReply> reply;
  {
    const auto client = Client::Create(server.target());
    Tensor query = SmallQuery();
    client->AttendAsync({.request_id = "seven", .query = query.View()}, 30s,
                        [&](absl::StatusOr<AttendReply> result) { reply = std::move(result); });
    query.values.assign(4, 0);  // was copied
  }
  ASSERT_THAT(reply, IsOk());
  EXPECT_EQ(reply->request_id, "seven");
  EXPECT_EQ(reply->output.values, SmallQuery().values);
}

TEST(ClientAsyncTest, ATensorThatContradictsItselfIsToldAtOnce) {
  FakeServer server;
  absl::Status status;
  const AttendHandle handle =
      Client::Create(server.target())
          ->AttendAsync({.query = TensorView{.shape = {3}}}, 30s,
                        [&](const absl::StatusOr<AttendReply>& reply) { status = reply.status(); });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("query: shape [3]")));
  handle.Cancel();  // does nothing
}

TEST(ClientAsyncTest, CancelEndsACallUnderWay) {
  FakeServer server(FakeServer::UntilCancelled);
  const auto client = Client::Create(server.target());
  std::promise<absl::Status> promise;
  const AttendHandle handle = client->AttendAsync(
      {.query = SmallQuery().View()}, 30s,
      [&](const absl::StatusOr<AttendReply>& reply) { promise.set_value(reply.status()); });
  while (server.requests().empty()) std::this_thread::sleep_for(1ms);
  handle.Cancel();
  EXPECT_THAT(promise.get_future().get(), StatusIs(absl::StatusCode::kCancelled, ::testing::_));
  handle.Cancel();  // does nothing
}

TEST(ClientAsyncTest, CancelEndsAPauseBetweenAttempts) {
  FakeServer server(Refusing(1, grpc::StatusCode::UNAVAILABLE, "20000"));
  const auto client = Client::Create(server.target());
  std::promise<absl::Status> promise;
  const auto begin = SteadyClock::now();
  const AttendHandle handle = client->AttendAsync(
      {.query = SmallQuery().View()}, 60s,
      [&](const absl::StatusOr<AttendReply>& reply) { promise.set_value(reply.status()); });
  while (server.requests().empty()) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(50ms);
  handle.Cancel();
  EXPECT_THAT(promise.get_future().get(), StatusIs(absl::StatusCode::kCancelled, ::testing::_));
  EXPECT_LT(SteadyClock::now() - begin, 15s);
  EXPECT_THAT(server.requests(), SizeIs(1));
}

TEST(ClientAsyncTest, ManyCallsAreUnderWayAtOnce) {
  FakeServer server;
  const auto client = Client::Create(server.target(), {.num_channels = 3});
  constexpr int kCalls = 100;
  std::atomic<int> ok = 0;
  std::atomic<int> left = kCalls;
  absl::Notification done;
  for (int i = 0; i < kCalls; ++i) {
    client->AttendAsync({.query = SmallQuery().View()}, 30s, [&](const absl::StatusOr<AttendReply>& reply) {
      if (reply.ok()) ++ok;
      if (--left == 0) done.Notify();
    });
  }
  done.WaitForNotification();
  EXPECT_EQ(ok, kCalls);
  EXPECT_THAT(server.peers(), SizeIs(3));
}

}  // namespace
}  // namespace headlight::client
