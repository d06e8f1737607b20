// SPDX-License-Identifier: Apache-2.0
//
// Three servers under steady load, balanced by the client or by HAProxy, and what befalls a fleet. With the
// client library no request fails, latency is back within seconds, load evens out, and retries stay few.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/client/fake_server.h"
#include "tests/client/tls_test.h"
#include "tests/e2e/fleet/haproxy.h"
#include "tests/e2e/fleet/replica.h"
#include "tests/e2e/fleet/steady_load.h"
#include "tests/testing/status_matchers.h"

namespace headlight::e2e {
namespace {

using namespace std::chrono_literals;
using testing::FakeServer;
using testing::IsOk;

constexpr int kRequestsPerS = 200;  // far below what three servers on one core can do
constexpr auto kTimeout = 10s;
constexpr auto kAttemptTimeout = 300ms;
constexpr auto kRecovery = 5s;     // after it the fleet is as before
constexpr auto kJudged = 3s;       // over which its latency and its balance are looked at
constexpr auto kUsualP99 = 250ms;  // less than an attempt timeout, far more than an answer takes

enum class Balancer { kClient, kHaproxy };

class Fleet {
 public:
  explicit Fleet(int num_replicas, const std::vector<std::string>& flags = {}) {
    for (int i = 0; i < num_replicas; ++i) replicas_.push_back(std::make_unique<Replica>(flags));
    for (const auto& replica : replicas_) replica->Start();
    for (const auto& replica : replicas_) replica->WaitUntilReady();
  }

  // With load on all of them, and on `others`, from now on.
  void Serve(Balancer balancer, const std::vector<Haproxy::Backend>& others = {},
             client::ClientOptions options = {}) {
    std::vector<Haproxy::Backend> backends = others;
    for (const auto& replica : replicas_) backends.push_back({replica->port(), replica->admin_port()});
    options.retry.attempt_timeout = kAttemptTimeout;
    std::string target;
    if (balancer == Balancer::kClient) {
      options.load_balancing = client::LoadBalancing::kRoundRobin;
      for (const Haproxy::Backend& backend : backends) {
        target += (target.empty() ? "ipv4:127.0.0.1:" : ",127.0.0.1:") + std::to_string(backend.port);
      }
    } else {
      haproxy_.emplace(backends);
      ASSERT_TRUE(haproxy_->WaitUntilReady()) << haproxy_->process().Output();
      target = haproxy_->address();
      // It may send an attempt to a server that the one before has found silent: it does not know.
      options.retry.max_attempts = 8;
    }
    balancer_ = balancer;
    auto client = Client::Create(target, options);
    ASSERT_THAT(client, IsOk());
    client_.emplace(*std::move(client));
    load_.emplace(*client_, kRequestsPerS, kTimeout);
    std::this_thread::sleep_for(1s);
  }

  Replica& replica(size_t index) { return *replicas_[index]; }
  std::vector<std::unique_ptr<Replica>>& replicas() { return replicas_; }

  // The event was just now: 5 s later latency is what it was, and load is even.
  void ExpectRecovery() {
    const SteadyTime recovered = std::chrono::steady_clock::now() + kRecovery;
    std::this_thread::sleep_until(recovered);
    std::vector<int64_t> answered;
    for (const auto& replica : replicas_) answered.push_back(-replica->answered());
    std::this_thread::sleep_until(recovered + kJudged);
    for (size_t i = 0; i < replicas_.size(); ++i) answered[i] += replicas_[i]->answered();
    std::this_thread::sleep_for(kUsualP99);
    EXPECT_LT(load_->P99(recovered, recovered + kJudged), kUsualP99);
    ExpectEven(answered);
  }

  // Every call was answered, and retries stayed within what the client allows itself. Ends the load.
  void ExpectNothingLost() {
    load_->Stop();
    const auto calls = load_->calls();
    EXPECT_GT(calls.size(), 3u * kRequestsPerS);
    int failed = 0;
    for (const LoadedCall& call : calls) {
      if (call.status.ok()) continue;
      if (++failed <= 3) ADD_FAILURE() << call.status << " after " << call.latency.count() << " us";
    }
    EXPECT_EQ(failed, 0) << "of " << calls.size();
    const client::RetryOptions budget;
    EXPECT_LE(client_->num_retries(),
              budget.budget_ratio * static_cast<double>(calls.size()) + 2 * budget.budget_reserve);
    ::testing::Test::RecordProperty("retries", static_cast<int>(client_->num_retries()));
    ::testing::Test::RecordProperty("calls", static_cast<int>(calls.size()));
  }

  int64_t num_retries() const { return client_->num_retries(); }

 private:
  // To 10 %; a proxy draws lots, and chance comes on top.
  void ExpectEven(const std::vector<int64_t>& answered) const {
    double sum = 0;
    for (int64_t count : answered) sum += static_cast<double>(count);
    const double mean = sum / static_cast<double>(answered.size());
    const double luck = balancer_ == Balancer::kHaproxy ? 3 * std::sqrt(mean) : 0;
    for (int64_t count : answered) EXPECT_NEAR(static_cast<double>(count), mean, 0.1 * mean + luck);
  }

  std::vector<std::unique_ptr<Replica>> replicas_;
  Balancer balancer_ = Balancer::kClient;
  std::optional<Haproxy> haproxy_;
  std::optional<Client> client_;
  std::optional<SteadyLoad> load_;
};

class FleetTest : public ::testing::TestWithParam<Balancer> {};

INSTANTIATE_TEST_SUITE_P(Balancers, FleetTest, ::testing::Values(Balancer::kClient, Balancer::kHaproxy),
                         [](const auto& one) {
                           return one.param == Balancer::kClient ? "Client" : "Haproxy";
                         });

TEST_P(FleetTest, ARollingRestart) {
  Fleet fleet(3);
  fleet.Serve(GetParam());
  for (const auto& replica : fleet.replicas()) {
    replica->Stop();
    replica->Start();
    replica->WaitUntilReady();
    std::this_thread::sleep_for(1s);  // whoever balances must hear of it, or there is soon nobody left
  }
  fleet.ExpectRecovery();
  fleet.ExpectNothingLost();
}

TEST_P(FleetTest, OneIsAddedAndOneIsKilled) {
  Fleet fleet(3);
  fleet.replica(2).Stop();  // its address is known, but nobody is there yet
  fleet.Serve(GetParam());
  fleet.replica(2).Start();
  fleet.replica(2).WaitUntilReady();
  std::this_thread::sleep_for(2s);
  fleet.replica(1).Kill();
  std::this_thread::sleep_for(2s);
  fleet.replica(1).Start();
  fleet.replica(1).WaitUntilReady();
  fleet.ExpectRecovery();
  fleet.ExpectNothingLost();
}

TEST_P(FleetTest, OneIsFrozen) {
  Fleet fleet(3);
  fleet.Serve(GetParam());
  fleet.replica(1).Freeze();
  std::this_thread::sleep_for(3s);
  fleet.replica(1).Thaw();
  fleet.ExpectRecovery();
  fleet.ExpectNothingLost();
}

// They fail every call at once and seem to be well, and the least busy of all.
class FleetWithBlackHolesTest : public ::testing::Test {
 protected:
  FakeServer unavailable_{
      [](auto&, const auto&, auto&) { return grpc::Status(grpc::StatusCode::UNAVAILABLE, "no"); }};
  FakeServer exhausted_{[](auto& context, const auto&, auto&) {
    context.AddTrailingMetadata("grpc-retry-pushback-ms", "5");
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no");
  }};
};

TEST_F(FleetWithBlackHolesTest, TheClientAvoidsThem) {
  Fleet fleet(2);
  fleet.Serve(Balancer::kClient, {{unavailable_.port(), 0}, {exhausted_.port(), 0}});
  fleet.ExpectRecovery();
  fleet.ExpectNothingLost();
  EXPECT_LT(fleet.num_retries(), 100);
}

TEST_F(FleetWithBlackHolesTest, HaproxyLetsThemRest) {
  for (const FakeServer* refusing : {&unavailable_, &exhausted_}) {
    Fleet fleet(3);
    fleet.Serve(Balancer::kHaproxy, {{refusing->port(), fleet.replica(0).admin_port()}});
    fleet.ExpectRecovery();
    fleet.ExpectNothingLost();
    EXPECT_LT(fleet.num_retries(), 100);
  }
}

class TlsFleetTest : public testing::TlsTest {};

TEST_F(TlsFleetTest, CertificatesAreRotatedUnderLoad) {
  const auto sign = [](const std::string& authority) {  // the server's request, anew
    const std::string folder = std::filesystem::path(File("ca.pem")).parent_path();
    const testing::RunResult signing = testing::RunProgram(
        {"/usr/bin/env", "sh", "-ec",
         "cd " + folder + " && openssl x509 -req -days 2 -in server.csr -CA " + authority + ".pem -CAkey " +
             authority + ".key -CAcreateserial -extfile names -out new.pem && mv new.pem shown.pem"});
    ASSERT_EQ(signing.exit_code, 0) << signing.output;
  };
  sign("ca");
  // Connections live for a second, so that there are handshakes all the time.
  Fleet fleet(
      3, {"--tls-cert", File("shown.pem"), "--tls-key", File("server.key"), "--max-connection-age-s", "1"});
  fleet.Serve(Balancer::kClient, {},
              {.tls = {.enabled = true, .ca_file = Write("both.pem", Read("ca.pem") + Read("other.pem"))}});
  for (const std::string authority : {"other", "ca", "other"}) {
    sign(authority);
    std::this_thread::sleep_for(1s);
  }
  fleet.ExpectRecovery();
  fleet.ExpectNothingLost();
}

}  // namespace
}  // namespace headlight::e2e
