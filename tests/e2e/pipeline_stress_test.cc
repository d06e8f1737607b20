// SPDX-License-Identifier: Apache-2.0
//
// The stress test without gRPC: requests go through envelope, limits, scheduler, batch and core from eight
// threads, and each answer is compared bit for bit with a lone run. ThreadSanitizer can judge this one: every
// lock on the way is ours or known to it, while gRPC as Debian builds it hides its own.
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "core/tensor/convert.h"
#include "server/batch/batch_executor.h"
#include "server/models/built_in_models.h"
#include "tests/e2e/lone_run.h"
#include "tests/server/checked_attend.h"
#include "tests/server/test_engine.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;

constexpr int kNumClients = 8;
constexpr int64_t kMaxMessageBytes = int64_t{256} << 20;

std::string Serialize(const e2e::StressCase& c) {
  v1::AttendRequest request;
  request.set_model("demo");
  request.mutable_query()->set_dtype(e2e::WireDType(c.dtype));
  request.mutable_query()->add_shape(static_cast<int64_t>(c.request.query.size()) / e2e::kEmbedDim);
  request.mutable_query()->add_shape(e2e::kEmbedDim);
  for (int64_t length : c.request.seq_lens) request.add_seq_lens(length);
  request.set_causal(c.request.mask == e2e::MaskKind::kCausal);
  if (c.request.window_left) request.set_window_left(*c.request.window_left);
  if (c.request.window_right) request.set_window_right(*c.request.window_right);
  v1::WeightsOptions& weights = *request.mutable_weights();
  weights.set_mode(e2e::WireMode(c.weights.mode));
  weights.set_top_k(c.weights.top_k);
  for (int64_t head : c.weights.heads) weights.add_heads(head);
  weights.set_query_begin(c.weights.query_begin);
  weights.set_query_end(c.weights.query_end);
  request.set_output_dtype(e2e::WireDType(c.output_dtype));
  std::string payload(c.request.query.size() * SizeOf(c.dtype), '\0');
  ConvertFromF32(c.request.query.data(), static_cast<int64_t>(c.request.query.size()), c.dtype,
                 payload.data());
  request.add_payloads(std::move(payload));
  return request.SerializeAsString();
}

// As the network delivers it: in pieces.
ByteSegments InPieces(const std::string& bytes) {
  constexpr size_t kPieceBytes = 8191;  // cuts elements in two
  ByteSegments segments;
  const std::span<const std::byte> all = std::as_bytes(std::span(bytes));
  for (size_t begin = 0; begin < all.size(); begin += kPieceBytes) {
    segments.Append(all.subspan(begin, std::min(kPieceBytes, all.size() - begin)));
  }
  return segments;
}

// The numbers of a result, of which `expected` says how many there are.
e2e::Answer AnswerOf(const BatchResult& result, DType dtype, const e2e::Answer& expected) {
  const auto floats = [dtype](const std::shared_ptr<const void>& data, size_t size) {
    std::vector<float> values(data == nullptr ? 0 : size);
    ConvertToF32(dtype, data.get(), static_cast<int64_t>(values.size()), values.data());
    return values;
  };
  e2e::Answer answer;
  answer.output = floats(result.output, expected.output.size());
  answer.weights = floats(result.weights, expected.weights.size());
  answer.received_mass = floats(result.received_mass, expected.received_mass.size());
  const int32_t* keys = result.weights_keys.get();
  if (keys != nullptr) answer.weights_keys.assign(keys, keys + expected.weights_keys.size());
  return answer;
}

// What one client saw.
struct Tally {
  int64_t answered = 0;
  std::string first_failure;
};

// Sends random cases until `deadline`; now and then it cancels one at once.
Tally RunClient(const RequestLimits& limits, testing::TestEngine& engine,
                const std::vector<e2e::StressCase>& cases, int seed,
                std::chrono::steady_clock::time_point deadline) {
  Tally tally;
  const auto failure = [&tally](std::string what) {
    tally.first_failure = std::move(what);
    return tally;
  };
  std::mt19937 twister(seed);
  while (std::chrono::steady_clock::now() < deadline) {
    const e2e::StressCase& c = cases[twister() % cases.size()];
    const bool cancels = twister() % 8 == 0;
    const std::string bytes = Serialize(c);
    const ByteSegments message = InPieces(bytes);
    absl::StatusOr<CheckedRequest> checked = testing::CheckAttend(message, limits);
    if (!checked.ok()) return failure(checked.status().ToString());

    const absl::StatusOr<BatchResult> result = engine.Compute(std::move(checked->input), cancels);
    if (cancels && absl::IsCancelled(result.status())) continue;
    if (!result.ok()) return failure(result.status().ToString());
    if (!e2e::SameBits(AnswerOf(*result, c.output_dtype, c.expected), c.expected))
      return failure("the answer differs from the lone run");
    ++tally.answered;
  }
  return tally;
}

TEST(PipelineStressTest, EightThreadsGetTheBitsOfLoneRuns) {
  const std::vector<e2e::StressCase> cases = e2e::MakeStressCases();
  ModelRegistry registry;
  absl::StatusOr<std::shared_ptr<const LoadedModel>> demo = MakeBuiltInModel("demo");
  ASSERT_THAT(demo, IsOk());
  ASSERT_THAT(registry.Add(*demo), IsOk());
  // What takes longer than a millisecond is parked now and then, for the short ones between.
  testing::TestEngine engine({.max_batch_tokens = 512, .queue_max_requests = 64, .long_run_us = 1000},
                             /*threads=*/2);
  const RequestLimits limits{registry, kMaxMessageBytes};

  const auto deadline = std::chrono::steady_clock::now() + e2e::StressTime();
  std::vector<Tally> tallies(kNumClients);
  std::vector<std::thread> threads;
  for (int i = 0; i < kNumClients; ++i) {
    threads.emplace_back([&, i] { tallies[i] = RunClient(limits, engine, cases, /*seed=*/i, deadline); });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t answered = 0;
  for (const Tally& tally : tallies) {
    EXPECT_EQ(tally.first_failure, "");
    answered += tally.answered;
  }
  EXPECT_GE(answered, kNumClients);
  RecordProperty("answered", std::to_string(answered));
  engine.scheduler().Drain();
}

}  // namespace
}  // namespace headlight
