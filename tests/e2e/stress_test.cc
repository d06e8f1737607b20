// SPDX-License-Identifier: Apache-2.0
//
// Many clients at once, each answer compared bit for bit with the same request computed alone: packing,
// threads, cancellation and expiry must never show in a result. HEADLIGHT_STRESS_SECONDS makes it longer;
// sanitizers watch it.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "server/server.h"
#include "tests/e2e/lone_run.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;
using namespace std::chrono_literals;

constexpr int kNumClients = 8;

client::AttendCall CallFor(const e2e::StressCase& c) {
  client::AttendCall call;
  call.model = "demo";
  const int64_t tokens = static_cast<int64_t>(c.request.query.size()) / e2e::kEmbedDim;
  call.query = client::TensorView{{tokens, e2e::kEmbedDim}, c.request.query};
  call.seq_lens = c.request.seq_lens;
  call.causal = c.request.mask == e2e::MaskKind::kCausal;
  call.window_left = c.request.window_left;
  call.window_right = c.request.window_right;
  call.weights = e2e::WireMode(c.weights.mode);
  call.top_k = c.weights.top_k;
  call.heads = c.weights.heads;
  call.query_begin = c.weights.query_begin;
  call.query_end = c.weights.query_end;
  call.dtype = e2e::WireDType(c.dtype);
  call.output_dtype = e2e::WireDType(c.output_dtype);
  return call;
}

e2e::Answer AnswerOf(const client::AttendReply& reply) {
  e2e::Answer answer;
  answer.output = reply.output.values;
  if (reply.weights) answer.weights = reply.weights->values;
  if (reply.weights_keys) answer.weights_keys = reply.weights_keys->values;
  if (reply.received_mass) answer.received_mass = reply.received_mass->values;
  return answer;
}

// What one client saw.
struct Tally {
  int64_t answered = 0;
  int64_t expired = 0;
  std::string first_failure;
};

// Sends random cases until `deadline`. Now and then a timeout too short to be met: the server says so at
// once, or nobody waits for its answer.
Tally RunClient(const std::string& address, const std::vector<e2e::StressCase>& cases, int seed,
                std::chrono::steady_clock::time_point deadline) {
  Tally tally;
  const absl::StatusOr<client::Client> client = client::Client::Create(address);
  if (!client.ok()) return {.first_failure = client.status().ToString()};
  std::mt19937 twister(seed);
  while (std::chrono::steady_clock::now() < deadline && tally.first_failure.empty()) {
    const e2e::StressCase& c = cases[twister() % cases.size()];
    const bool hasty = twister() % 8 == 0;
    const auto timeout =
        hasty ? std::chrono::milliseconds(1 + twister() % 20) : std::chrono::milliseconds(60000);
    const absl::StatusOr<client::AttendReply> reply = client->Attend(CallFor(c), timeout);
    if (hasty && (absl::IsDeadlineExceeded(reply.status()) || absl::IsResourceExhausted(reply.status()))) {
      ++tally.expired;
    } else if (!reply.ok()) {
      tally.first_failure = reply.status().ToString();
    } else if (!e2e::SameBits(AnswerOf(*reply), c.expected)) {
      tally.first_failure = "the answer differs from the lone run";
    } else {
      ++tally.answered;
    }
  }
  return tally;
}

void Stress(int64_t server_threads) {
  const std::vector<e2e::StressCase> cases = e2e::MakeStressCases();
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.admin_listen.clear();
  options.threads = server_threads;
  options.log_level = LogLevel::kWarn;
  absl::StatusOr<std::unique_ptr<HeadlightServer>> server = HeadlightServer::Start(options);
  ASSERT_THAT(server, IsOk());
  const std::string address = "127.0.0.1:" + std::to_string((*server)->port());

  const auto deadline = std::chrono::steady_clock::now() + e2e::StressTime();
  std::vector<Tally> tallies(kNumClients);
  std::vector<std::thread> threads;
  for (int i = 0; i < kNumClients; ++i) {
    threads.emplace_back([&, i] { tallies[i] = RunClient(address, cases, /*seed=*/i, deadline); });
  }
  for (std::thread& thread : threads) thread.join();

  int64_t answered = 0;
  for (const Tally& tally : tallies) {
    EXPECT_EQ(tally.first_failure, "");
    answered += tally.answered;
  }
  EXPECT_GE(answered, kNumClients);
  ::testing::Test::RecordProperty("answered", std::to_string(answered));
  EXPECT_THAT((*server)->Shutdown(), IsOk());
}

TEST(StressTest, EightClientsGetTheBitsOfLoneRunsFromTwoThreads) { Stress(2); }

TEST(StressTest, EightClientsGetTheBitsOfLoneRunsFromOneThread) { Stress(1); }

}  // namespace
}  // namespace headlight
