// SPDX-License-Identifier: Apache-2.0
//
// Peers that mean no good, from 127.0.0.2, each beside a caller that does: the caller is answered all the
// while, and afterwards the server has the descriptors, the threads and about the memory that it had
// before.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "headlight/v1/attention.grpc.pb.h"
#include "tests/e2e/attacks.h"
#include "tests/e2e/process_facts.h"
#include "tests/e2e/raw_http2.h"
#include "tests/e2e/server_process.h"
#include "tests/server/attend_fixtures.h"

namespace headlight::e2e {
namespace {

using namespace std::chrono_literals;
using testing::MakeRequest;

constexpr int64_t kMaxGrowthMiB = 64;
constexpr int64_t kMoreThreads = 8;  // that gRPC has started for callbacks, and keeps
constexpr auto kToRecover = 15s;
constexpr auto kMaxLatency = 5s;  // of the caller: only a server that hangs takes so long

// A caller like any other, one request after the other on one connection.
class GoodCaller {
 public:
  explicit GoodCaller(const std::string& address)
      : stub_(
            v1::AttentionService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {
  }
  ~GoodCaller() { Stop(); }

  void Call() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kMaxLatency);
    v1::AttendResponse response;
    const auto begin = std::chrono::steady_clock::now();
    const grpc::Status status = stub_->Attend(&context, request_, &response);
    latencies_us_.push_back((std::chrono::steady_clock::now() - begin) / 1us);
    if (!status.ok()) failures_.push_back(status.error_message());
  }

  void Start() {
    stopping_ = false;
    latencies_us_.clear();
    thread_ = std::thread([this] {
      while (!stopping_) {
        Call();
        std::this_thread::sleep_for(2ms);
      }
    });
  }
  void Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }

  // Once stopped.
  int64_t P99Us() {
    if (latencies_us_.empty()) return 0;
    std::sort(latencies_us_.begin(), latencies_us_.end());
    return latencies_us_[latencies_us_.size() * 99 / 100];
  }
  size_t num_calls() const { return latencies_us_.size(); }
  const std::vector<std::string>& failures() const { return failures_; }

 private:
  const std::unique_ptr<v1::AttentionService::Stub> stub_;
  const v1::AttendRequest request_ = MakeRequest("demo", {1, 4, 768});
  std::vector<int64_t> latencies_us_;
  std::vector<std::string> failures_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

class HostilePeersTest : public ::testing::TestWithParam<Attack> {};

TEST_P(HostilePeersTest, TheServerAnswersOthersAndRecovers) {
  // Without a pause, as if each connection came from an address of its own.
  ServerProcess server({"--models", "demo", "--reply-timeout-s", "2", "--abuse-pause-s", "0"});
  const pid_t pid = server.process().pid();
  GoodCaller caller(server.address());
  for (int i = 0; i < 300; ++i) caller.Call();
  caller.Start();
  std::this_thread::sleep_for(1s);
  caller.Stop();
  const int64_t unloaded_us = caller.P99Us();
  const int64_t before_mib = ResidentMiB(pid);
  const int64_t descriptors = OpenDescriptors(pid);
  const int64_t threads = StatusNumber(pid, "Threads");

  caller.Start();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(GetParam().run(server.address()));
  const auto took = std::chrono::steady_clock::now() - begin;
  caller.Stop();
  const int64_t attacked_us = caller.P99Us();
  const int64_t after_mib = ResidentMiB(pid);

  EXPECT_EQ(server.process().Wait(0s), -1) << server.process().Output();
  EXPECT_TRUE(caller.failures().empty())
      << caller.failures().size() << " of " << caller.num_calls() << ": " << caller.failures().front();
  EXPECT_LT(took, 60s);
  EXPECT_TRUE(Eventually(kToRecover, [&] { return OpenDescriptors(pid) <= descriptors + 2; }))
      << OpenDescriptors(pid) << " descriptors, there were " << descriptors;
  EXPECT_TRUE(Eventually(kToRecover, [&] { return StatusNumber(pid, "Threads") <= threads + kMoreThreads; }))
      << StatusNumber(pid, "Threads") << " threads, there were " << threads;
  EXPECT_TRUE(Eventually(kToRecover, [&] { return ResidentMiB(pid) < before_mib + kMaxGrowthMiB; }))
      << ResidentMiB(pid) << " MiB, there were " << before_mib;
  std::cout << "[ facts ] " << GetParam().name << " took_ms=" << took / 1ms << " p99_us=" << unloaded_us
            << "->" << attacked_us << " rss_mib=" << before_mib << " peak=" << PeakMiB(pid)
            << " after=" << after_mib << " settled=" << ResidentMiB(pid) << "\n";
}

INSTANTIATE_TEST_SUITE_P(All, HostilePeersTest, ::testing::ValuesIn(Attacks()),
                         [](const auto& info) { return info.param.name; });

TEST(FewDescriptorsTest, TheListenerComesBackWhenDescriptorsDo) {
  testing::Subprocess server({"/usr/bin/env", "prlimit", "--nofile=256", HEADLIGHT_SERVER_PROGRAM, "--listen",
                              "127.0.0.1:0", "--models", "demo", "--max-connections-per-address", "1000"});
  const std::string address = "127.0.0.1" + server.WaitForOutput("listening on 127.0.0.1", 60s);
  GoodCaller before(address);
  before.Call();
  {
    std::vector<RawConnection> peers;
    for (int i = 0; i < 600; ++i) peers.emplace_back(address);
    before.Call();
    EXPECT_LE(OpenDescriptors(server.pid()), 256);
  }
  EXPECT_TRUE(Eventually(10s, [&] {
    GoodCaller caller(address);
    caller.Call();
    return caller.failures().empty();
  }));
  EXPECT_TRUE(before.failures().empty());
  EXPECT_EQ(server.Wait(0s), -1);
}

TEST(FewDescriptorsTest, OneAddressDoesNotShutOthersOut) {
  testing::Subprocess server({"/usr/bin/env", "prlimit", "--nofile=256", HEADLIGHT_SERVER_PROGRAM, "--listen",
                              "127.0.0.1:0", "--models", "demo"});
  const std::string address = "127.0.0.1" + server.WaitForOutput("listening on 127.0.0.1", 60s);
  std::vector<RawConnection> peers;
  for (int i = 0; i < 600; ++i) peers.emplace_back(address);
  GoodCaller caller(address);
  caller.Call();
  EXPECT_TRUE(caller.failures().empty());
}

}  // namespace
}  // namespace headlight::e2e
