// SPDX-License-Identifier: Apache-2.0
//
// As pipeline_stress_test.cc, with a model that begins at token ids: hidden states, pooled vectors and the
// weights of every layer, asked for by many threads at once, have the bits of lone runs.
#include <gtest/gtest.h>

#include <cstring>
#include <future>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "server/batch/batch_executor.h"
#include "tests/e2e/lone_run.h"
#include "tests/server/checked_attend.h"
#include "tests/server/test_engine.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::headlight::testing::IsOk;

constexpr int kEncoderClients = 6;
constexpr int64_t kEncoderMessageBytes = int64_t{256} << 20;
constexpr int64_t kVocabSize = 200;
constexpr int64_t kNumPositions = 80;

ModelConfig EncoderConfig() {
  ModelConfig config;
  config.block.attention.embed_dim = 64;
  config.block.attention.num_heads = 4;
  config.block.norm_placement = NormPlacement::kPost;
  config.block.feed_forward = {.hidden_dim = 96, .activation = Activation::kGeluErf};
  config.num_layers = 3;
  config.embedding = {
      .vocab_size = kVocabSize, .num_positions = kNumPositions, .num_token_types = 2, .norm = true};
  config.normalize_pooled = true;
  return config.Resolved();
}

std::string RandomIds(int64_t count, int64_t limit, std::mt19937& twister) {
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(twister() % static_cast<uint32_t>(limit));
  return std::string(static_cast<const char*>(static_cast<const void*>(ids.data())),
                     ids.size() * sizeof(int32_t));
}

// A request in wire form that is like no other of its kind.
std::string RandomRequest(std::mt19937& twister) {
  v1::AttendRequest request;
  request.set_model("encoder");
  int64_t tokens = 0;
  for (uint32_t i = 0; i <= twister() % 4; ++i) {
    request.add_seq_lens(1 + twister() % (twister() % 2 == 0 ? 8 : kNumPositions));
    tokens += request.seq_lens(static_cast<int>(i));
  }
  request.mutable_token_ids()->set_dtype(v1::DTYPE_I32);
  request.mutable_token_ids()->add_shape(tokens);
  request.add_payloads(RandomIds(tokens, kVocabSize, twister));
  if (twister() % 2 == 0) {
    *request.mutable_token_types() = request.token_ids();
    request.add_payloads(RandomIds(tokens, 2, twister));
  }
  request.set_causal(twister() % 4 == 0);
  if (twister() % 4 == 0) request.set_window_left(3);
  request.set_pooling(static_cast<v1::PoolingMode>(twister() % 4));
  constexpr v1::DType kDTypes[] = {v1::DTYPE_F32, v1::DTYPE_BF16, v1::DTYPE_F16};
  request.set_output_dtype(kDTypes[twister() % 3]);
  if (twister() % 2 == 0) {
    v1::WeightsOptions& weights = *request.mutable_weights();
    weights.set_mode(twister() % 2 == 0 ? v1::WEIGHTS_MODE_FULL : v1::WEIGHTS_MODE_SUMMARY);
    if (twister() % 4 != 0) weights.set_layer(twister() % 3);
  }
  return request.SerializeAsString();
}

// The bytes of a result, one tensor after the other.
std::string BytesOf(const BatchInput& input, const BatchResult& result) {
  const int64_t size = SizeOf(input.output_dtype);
  const int64_t width = input.model->model.config().block.attention.embed_dim;
  std::string bytes;
  const auto add = [&bytes](const void* data, int64_t size_bytes) {
    bytes.append(static_cast<const char*>(data), size_bytes);
  };
  add(result.output.get(), input.num_outputs(width) * size);
  if (result.weights != nullptr) add(result.weights.get(), input.weights.num_weights * size);
  if (result.received_mass != nullptr) add(result.received_mass.get(), input.weights.num_received * size);
  return bytes;
}

struct Case {
  std::string request;
  std::string expected;  // BytesOf a lone run
};

absl::StatusOr<BatchInput> Check(const std::string& request, const RequestLimits& limits) {
  ByteSegments message;
  message.Append(std::as_bytes(std::span(request)));
  absl::StatusOr<CheckedRequest> checked = testing::CheckAttend(message, limits);
  if (!checked.ok()) return checked.status();
  return std::move(checked->input);
}

std::vector<Case> MakeCases(const RequestLimits& limits) {
  ComputeArena arena(1);
  BufferPool pool(/*max_idle_bytes=*/0);
  AttentionExecutor executor(arena, pool);
  std::mt19937 twister(20170612);
  std::vector<Case> cases(48);
  for (Case& c : cases) {
    c.request = RandomRequest(twister);
    const absl::StatusOr<BatchInput> input = Check(c.request, limits);
    EXPECT_THAT(input, IsOk());
    const BatchInput* const batch = &*input;
    const auto results = executor.Execute({&batch, 1});
    EXPECT_THAT(results, IsOk());
    c.expected = BytesOf(*input, results->front());
  }
  return cases;
}

// What went wrong first while one client sent cases until `deadline`; empty if nothing did.
std::string RunClient(const RequestLimits& limits, testing::TestEngine& engine,
                      const std::vector<Case>& cases, int seed,
                      std::chrono::steady_clock::time_point deadline, int64_t& answered) {
  std::mt19937 twister(seed);
  while (std::chrono::steady_clock::now() < deadline) {
    const Case& c = cases[twister() % cases.size()];
    const absl::StatusOr<BatchInput> input = Check(c.request, limits);
    if (!input.ok()) return input.status().ToString();
    const bool cancels = twister() % 8 == 0;
    const absl::StatusOr<BatchResult> result = engine.Compute(*input, cancels);
    if (cancels) continue;  // unspecified, if it was computed
    if (!result.ok()) return result.status().ToString();
    if (BytesOf(*input, *result) != c.expected) return "the answer differs from the lone run";
    ++answered;
  }
  return "";
}

TEST(EncoderStressTest, ManyThreadsGetTheBitsOfLoneRuns) {
  ModelRegistry registry;
  const ModelConfig config = EncoderConfig();
  const auto model = PackModel("encoder", "1", "native", config, RandomModelParameters(config, 1), "");
  ASSERT_THAT(model, IsOk());
  ASSERT_THAT(registry.Add(*model), IsOk());
  const RequestLimits limits{registry, kEncoderMessageBytes};
  const std::vector<Case> cases = MakeCases(limits);
  testing::TestEngine engine({.max_batch_tokens = 512, .queue_max_requests = 64, .long_run_us = 200},
                             /*threads=*/2);

  const auto deadline = std::chrono::steady_clock::now() + e2e::StressTime();
  std::vector<std::string> failures(kEncoderClients);
  std::vector<int64_t> answered(kEncoderClients, 0);
  std::vector<std::thread> threads;
  for (int i = 0; i < kEncoderClients; ++i) {
    threads.emplace_back(
        [&, i] { failures[i] = RunClient(limits, engine, cases, /*seed=*/i, deadline, answered[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
  const int64_t total = std::accumulate(answered.begin(), answered.end(), int64_t{0});
  EXPECT_GE(total, kEncoderClients);
  RecordProperty("answered", std::to_string(total));
  engine.scheduler().Drain();
}

}  // namespace
}  // namespace headlight
