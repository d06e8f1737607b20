// SPDX-License-Identifier: Apache-2.0
//
// A client of several servers, of which some are not well.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/client/fake_server.h"
#include "tests/client/tls_test.h"
#include "tests/testing/loopback.h"
#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::SizeIs;

const Tensor& FourNumbers() {
  static const Tensor query{.shape = {1, 1, 4}, .values = {1, 2, 3, 4}};
  return query;
}

absl::Status Call(const Client& client, std::chrono::milliseconds timeout = 30s) {
  return client.Attend({.query = FourNumbers().View()}, timeout).status();
}

std::string TargetOf(const std::vector<const FakeServer*>& servers) {
  std::string target;
  for (const FakeServer* server : servers) target += (target.empty() ? "ipv4:" : ",") + server->target();
  return target;
}

// Calls until each has been asked.
void WaitForAll(const Client& client, const std::vector<const FakeServer*>& servers) {
  for (const FakeServer* server : servers) {
    for (int i = 0; i < 1000 && server->requests().empty(); ++i) EXPECT_THAT(Call(client), IsOk());
    ASSERT_FALSE(server->requests().empty());
  }
}

// Until the client knows that `server` does not serve, which it hears beside its calls: many in a row go elsewhere.
void WaitUntilPassedBy(const Client& client, const FakeServer& server) {
  const auto give_up_at = std::chrono::steady_clock::now() + 20s;
  int passed = 0;
  while (passed < 20 && std::chrono::steady_clock::now() < give_up_at) {
    const size_t before = server.requests().size();
    EXPECT_THAT(Call(client), IsOk());
    passed = server.requests().size() == before ? passed + 1 : 0;
  }
}

FakeServer::AttendHandler AlwaysRefusing(grpc::StatusCode code, const std::string& pushback) {
  return [=](grpc::ServerContext& context, const v1::AttendRequest&, v1::AttendResponse&) {
    if (!pushback.empty()) context.AddTrailingMetadata("grpc-retry-pushback-ms", pushback);
    return grpc::Status(code, "not now");
  };
}

grpc::Status LackTheModel(grpc::ServerContext& context, const v1::AttendRequest&, v1::AttendResponse&) {
  context.AddTrailingMetadata("headlight-reason", "model_unavailable");
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "model: \"a\" could not be loaded");
}

TEST(SeveralServersTest, ARefusalIsTakenElsewhereAtOnce) {
  for (const auto code : {grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::RESOURCE_EXHAUSTED}) {
    FakeServer refuses(AlwaysRefusing(code, "20000")), answers;
    const auto client = Client::Create(TargetOf({&refuses, &answers}),
                                       {.load_balancing = LoadBalancing::kRoundRobin,
                                        .retry = {.initial_backoff = 20s, .max_backoff = 20s}});
    ASSERT_THAT(client, IsOk());
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 50; ++i) EXPECT_THAT(Call(*client), IsOk());
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
    EXPECT_LE(refuses.requests().size(), 8u);  // it rests, for longer each time
    EXPECT_THAT(answers.requests(), SizeIs(50));
  }
}

TEST(SeveralServersTest, SilenceIsTakenElsewhere) {
  FakeServer silent(FakeServer::UntilCancelled), answers;
  const auto client =
      Client::Create(TargetOf({&silent, &answers}),
                     {.load_balancing = LoadBalancing::kRoundRobin, .retry = {.attempt_timeout = 200ms}});
  ASSERT_THAT(client, IsOk());
  for (int i = 0; i < 50; ++i) EXPECT_THAT(Call(*client), IsOk());
  EXPECT_LE(silent.requests().size(), 8u);
}

// Calls that come at once, before there is any connection, do not wait for one that will never be.
TEST(SeveralServersTest, WhoNeverConnectsHoldsNoCall) {
  const testing::LoopbackListener silent;
  FakeServer answers;
  const auto client = Client::Create("ipv4:" + silent.target() + "," + answers.target(),
                                     {.load_balancing = LoadBalancing::kRoundRobin});
  ASSERT_THAT(client, IsOk());
  const auto begin = std::chrono::steady_clock::now();
  std::atomic<int> under_way{40};
  std::atomic<int> failed{0};
  for (int i = under_way; i > 0; --i) {
    client->AttendAsync({.query = FourNumbers().View()}, 60s, [&](const absl::StatusOr<AttendReply>& reply) {
      failed += reply.ok() ? 0 : 1;
      --under_way;
    });
  }
  while (under_way > 0) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(failed, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);  // gRPC gives a connection 20 s
}

// Who refused is not asked again before its time, and nobody waits for one that will never be.
TEST(SeveralServersTest, WhoNeverConnectsIsNoOtherServer) {
  const testing::LoopbackListener silent;
  std::atomic<int> left{0};
  std::atomic<std::chrono::steady_clock::rep> refused_at{0};
  std::atomic<bool> came_early{false};
  FakeServer refuses(
      [&](grpc::ServerContext& context, const v1::AttendRequest& request, v1::AttendResponse& response) {
        const auto now = std::chrono::steady_clock::now().time_since_epoch();
        const auto before = std::chrono::steady_clock::duration(refused_at.exchange(now.count()));
        if (before.count() > 0 && now - before < 100ms) came_early = true;
        if (left.fetch_sub(1) <= 0) {
          refused_at = 0;
          return FakeServer::Echo(context, request, response);
        }
        context.AddTrailingMetadata("grpc-retry-pushback-ms", "100");
        return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "not now");
      });
  const auto client = Client::Create("ipv4:" + silent.target() + "," + refuses.target(),
                                     {.load_balancing = LoadBalancing::kRoundRobin});
  ASSERT_THAT(client, IsOk());
  ASSERT_THAT(Call(*client), IsOk());
  refused_at = 0;
  left = 2;
  EXPECT_THAT(Call(*client, 5s), IsOk());
  EXPECT_FALSE(came_early);
}

TEST(SeveralServersTest, AServerThatLacksAModelIsWell) {
  FakeServer one(LackTheModel), other(LackTheModel);
  const auto client = Client::Create(
      TargetOf({&one, &other}),
      {.load_balancing = LoadBalancing::kRoundRobin, .retry = {.initial_backoff = 20s, .max_backoff = 20s}});
  ASSERT_THAT(client, IsOk());
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i)
    EXPECT_THAT(Call(*client), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  EXPECT_LE(client->num_retries(), 20) << "at most one for each call, with the other";
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s) << "without a pause";
  EXPECT_GE(std::min(one.requests().size(), other.requests().size()), 10u) << "neither rests";
}

// However quickly it refuses: who has the model answers all calls for it, whatever the budget.
TEST(SeveralServersTest, AServerThatLacksAModelTakesNobodysCalls) {
  FakeServer lacks(LackTheModel), answers;
  const auto client = Client::Create(
      TargetOf({&lacks, &answers}),
      {.load_balancing = LoadBalancing::kRoundRobin,
       .retry = {.initial_backoff = 20s, .max_backoff = 20s, .budget_ratio = 0, .budget_reserve = 1}});
  ASSERT_THAT(client, IsOk());
  for (int i = 0; i < 100; ++i) EXPECT_THAT(Call(*client), IsOk());
  EXPECT_GT(lacks.requests().size(), 10u);
}

TEST(SeveralServersTest, AServerSaysHowLongItRests) {
  FakeServer refuses(AlwaysRefusing(grpc::StatusCode::UNAVAILABLE, "4000")), answers;
  const auto client =
      Client::Create(TargetOf({&refuses, &answers}), {.load_balancing = LoadBalancing::kRoundRobin});
  ASSERT_THAT(client, IsOk());
  const auto begin = std::chrono::steady_clock::now();
  while (refuses.requests().empty() && std::chrono::steady_clock::now() - begin < 20s)
    EXPECT_THAT(Call(*client), IsOk());
  const size_t before = refuses.requests().size();
  const auto end = std::chrono::steady_clock::now() + 2s;
  while (std::chrono::steady_clock::now() < end) EXPECT_THAT(Call(*client), IsOk());
  EXPECT_LE(refuses.requests().size(), before + 1);
}

TEST(SeveralServersTest, WhoDoesNotServeGetsNoCall) {
  FakeServer one, other;
  const auto client =
      Client::Create(TargetOf({&one, &other}), {.load_balancing = LoadBalancing::kRoundRobin});
  ASSERT_THAT(client, IsOk());
  WaitForAll(*client, {&one, &other});
  one.SetServing(false);
  WaitUntilPassedBy(*client, one);
  const size_t before = one.requests().size();
  for (int i = 0; i < 50; ++i) EXPECT_THAT(Call(*client), IsOk());
  EXPECT_EQ(one.requests().size(), before);
  one.SetServing(true);
  const auto give_up_at = std::chrono::steady_clock::now() + 20s;
  while (one.requests().size() == before && std::chrono::steady_clock::now() < give_up_at) {
    EXPECT_THAT(Call(*client), IsOk());
  }
  EXPECT_GT(one.requests().size(), before);
}

TEST(SeveralServersTest, ThereIsNoStormWhenAllRefuse) {
  const auto handler = AlwaysRefusing(grpc::StatusCode::UNAVAILABLE, "");
  FakeServer one(handler), two(handler), three(handler);
  const auto client = Client::Create(
      TargetOf({&one, &two, &three}),
      {.load_balancing = LoadBalancing::kRoundRobin, .retry = {.initial_backoff = 1ms, .max_backoff = 1ms}});
  ASSERT_THAT(client, IsOk());
  constexpr int kCalls = 500;
  for (int i = 0; i < kCalls; ++i)
    EXPECT_THAT(Call(*client), StatusIs(absl::StatusCode::kUnavailable, "not now"));
  const size_t attempts = one.requests().size() + two.requests().size() + three.requests().size();
  EXPECT_EQ(attempts, static_cast<size_t>(kCalls + client->num_retries()));
  EXPECT_GE(client->num_retries(), kCalls / 10);
  EXPECT_LE(client->num_retries(), kCalls / 5 + 60);
}

TEST(SeveralServersTest, ASilentServerIsWaitedForOnceTheBudgetIsSpent) {
  FakeServer silent(FakeServer::UntilCancelled);
  const auto client = Client::Create(
      silent.target(), {.retry = {.attempt_timeout = 10ms, .budget_ratio = 0, .budget_reserve = 2}});
  ASSERT_THAT(client, IsOk());
  EXPECT_THAT(Call(*client, 300ms), StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::_));
  EXPECT_EQ(client->num_retries(), 2);
  EXPECT_LE(silent.requests().size(), 3u);
}

TEST(SeveralServersTest, ANameIsWhatItsAddressesAre) {
  FakeServer server;  // of 127.0.0.1; localhost may be ::1 too, where nobody is
  const auto client = Client::Create("localhost:" + std::to_string(server.port()),
                                     {.load_balancing = LoadBalancing::kRoundRobin});
  ASSERT_THAT(client, IsOk());
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Call(*client), IsOk());
    std::this_thread::sleep_for(10ms);  // until the name was looked up
  }
  EXPECT_THAT(server.requests(), SizeIs(20));
}

TEST(SeveralServersTest, StreamsGoToWhoIsWell) {
  FakeServer one, other;
  const auto client =
      Client::Create(TargetOf({&one, &other}), {.load_balancing = LoadBalancing::kRoundRobin});
  ASSERT_THAT(client, IsOk());
  WaitForAll(*client, {&one, &other});
  one.SetServing(false);
  WaitUntilPassedBy(*client, one);
  const size_t before = one.requests().size();
  for (int i = 0; i < 4; ++i) {
    auto stream = client->OpenStream(30s);
    ASSERT_THAT(stream, IsOk());
    (*stream)->Attend({.query = FourNumbers().View()},
                      [](const absl::StatusOr<AttendReply>& reply) { EXPECT_THAT(reply, IsOk()); });
    EXPECT_THAT((*stream)->Finish(), IsOk());
  }
  EXPECT_EQ(one.requests().size(), before);
}

class SeveralTlsServersTest : public ::headlight::testing::TlsTest {};

TEST_F(SeveralTlsServersTest, EachMustBeWhomTheTargetNames) {
  const auto one = Serve(/*mutual=*/false), other = Serve(false);
  const TlsOptions tls{.enabled = true, .ca_file = File("ca.pem")};
  const auto by_address = Client::Create(TargetOf({one.get(), other.get()}),
                                         {.load_balancing = LoadBalancing::kRoundRobin, .tls = tls});
  ASSERT_THAT(by_address, IsOk());
  WaitForAll(*by_address, {one.get(), other.get()});  // the certificate has 127.0.0.1
  const auto by_name = Client::Create("localhost:" + std::to_string(one->port()),
                                      {.load_balancing = LoadBalancing::kRoundRobin, .tls = tls});
  ASSERT_THAT(by_name, IsOk());
  std::this_thread::sleep_for(200ms);  // until the name was looked up
  EXPECT_THAT(Call(*by_name), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));  // but not "localhost"
}

}  // namespace
}  // namespace headlight::client
