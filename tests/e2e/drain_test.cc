// SPDX-License-Identifier: Apache-2.0
//
// A server that is told to stop under load, again and again: every call gets its answer or UNAVAILABLE, and
// nothing is cancelled. HEADLIGHT_DRAINS says how often; scripts/soak.sh does it with real processes.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "headlight/v1/attention.grpc.pb.h"
#include "server/server.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::MakeRequest;
using testing::MakeTestModel;

constexpr int kCallers = 8;
constexpr int kStreams = 4;
constexpr std::chrono::milliseconds kUnderLoad{50};
constexpr std::chrono::seconds kDrainPatience{30};

int NumDrains() {
  int drains = 0;
  const char* const text = std::getenv("HEADLIGHT_DRAINS");
  return text != nullptr && absl::SimpleAtoi(text, &drains) ? drains : 5;
}

// What became of calls and of requests in streams, by code.
class Ledger {
 public:
  void Note(const std::string& what, int code) {
    const std::lock_guard lock(mutex_);
    ++counts_[what][code];
  }
  std::map<std::string, std::map<int, int>> counts() {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::map<int, int>> counts_;  // guarded by mutex_
};

// Counts those who have had a first answer.
class Started {
 public:
  void Note() { ++count_; }
  void WaitFor(int count) const {
    const auto give_up = std::chrono::steady_clock::now() + kDrainPatience;
    while (count_ < count && std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

 private:
  std::atomic<int> count_{0};
};

// Sends one request after the other until the server is gone.
void CallUntilGone(v1::AttentionService::Stub& stub, Ledger& ledger, Started& started) {
  const v1::AttendRequest request = MakeRequest("small", {4, 32, 16});
  bool is_first = true;
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kDrainPatience);
    v1::AttendResponse response;
    const grpc::Status status = stub.Attend(&context, request, &response);
    ledger.Note("unary", status.error_code());
    if (!status.ok()) return;
    if (is_first) started.Note();
    is_first = false;
  }
}

// Keeps a few requests under way on a stream until the server ends it.
void StreamUntilGone(v1::AttentionService::Stub& stub, Ledger& ledger, Started& started) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDrainPatience);
  const auto stream = stub.AttendStream(&context);
  std::atomic<int> sent{0};
  std::thread writer([&] {
    const v1::AttendRequest request = MakeRequest("small", {4, 32, 16});
    while (stream->Write(request)) ++sent;
  });
  v1::AttendResponse response;
  int answered = 0;
  while (stream->Read(&response)) {
    if (answered++ == 0) started.Note();
    ledger.Note("stream reply", response.error().code());
  }
  writer.join();
  ledger.Note("stream", stream->Finish().error_code());
  EXPECT_GT(answered, 0);
  EXPECT_LE(answered, sent + 1);
}

void DrainOnce(Ledger& ledger) {
  auto registry = std::make_shared<ModelRegistry>();
  ASSERT_THAT(registry->Add(MakeTestModel("small").loaded), IsOk());
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.admin_listen.clear();
  options.threads = 1;
  const auto server = HeadlightServer::Start(options, registry);
  ASSERT_THAT(server, IsOk());
  const std::string address = "127.0.0.1:" + std::to_string((*server)->port());
  std::vector<std::unique_ptr<v1::AttentionService::Stub>> stubs;
  std::vector<std::thread> threads;
  Started started;
  for (int i = 0; i < kCallers + kStreams; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    stubs.push_back(v1::AttentionService::NewStub(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
    threads.emplace_back(i < kCallers ? CallUntilGone : StreamUntilGone, std::ref(*stubs.back()),
                         std::ref(ledger), std::ref(started));
  }
  started.WaitFor(kCallers + kStreams);
  std::this_thread::sleep_for(kUnderLoad);
  EXPECT_THAT((*server)->Shutdown(), IsOk());
  EXPECT_EQ((*server)->num_unfinished(), 0);
  for (std::thread& thread : threads) thread.join();
}

TEST(DrainTest, EveryCallIsAnsweredOrUnavailable) {
  Ledger ledger;
  for (int i = 0; i < NumDrains(); ++i) DrainOnce(ledger);
  for (const auto& [what, codes] : ledger.counts()) {
    for (const auto& [code, count] : codes) {
      EXPECT_TRUE(code == grpc::StatusCode::OK || code == grpc::StatusCode::UNAVAILABLE)
          << count << " x " << what << " ended with code " << code;
    }
  }
  EXPECT_EQ(ledger.counts()["stream"].count(grpc::StatusCode::OK), 0u);
  EXPECT_GT(ledger.counts()["unary"][grpc::StatusCode::OK], 0);
}

}  // namespace
}  // namespace headlight
