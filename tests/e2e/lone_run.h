// SPDX-License-Identifier: Apache-2.0
//
// What a request must be answered with: the same sequences computed alone, in process, on one thread. Answers
// from a busy server are compared with these bit for bit.
#ifndef HEADLIGHT_TESTS_E2E_LONE_RUN_H_
#define HEADLIGHT_TESTS_E2E_LONE_RUN_H_

#include <chrono>
#include <cstdint>
#include <vector>

#include "core/attention/multi_head_attention.h"
#include "headlight/v1/attention.pb.h"

namespace headlight::e2e {

constexpr int64_t kEmbedDim = 768;  // of the built-in model

enum class MaskKind { kNone, kCausal };

// Self attention over a ragged batch.
struct Request {
  std::vector<int64_t> seq_lens;
  std::vector<float> query;  // [tokens, kEmbedDim]
  MaskKind mask = MaskKind::kNone;
};

struct Answer {
  std::vector<float> output;   // [tokens, kEmbedDim]
  std::vector<float> weights;  // as attention.proto says; empty for kNone
};

// Values of about unit variance; the same for the same seed.
Request RandomRequest(const std::vector<int64_t>& seq_lens, uint64_t seed, MaskKind mask);

// The built-in model of the server, made anew. Fails the test if that is impossible.
const MultiHeadAttention& DemoModel();

Answer LoneRun(const MultiHeadAttention& model, const Request& request, WeightsSink::Mode mode);

// A request, how it is asked for, and its answer computed alone.
struct StressCase {
  Request request;
  WeightsSink::Mode weights = WeightsSink::Mode::kNone;
  Answer expected;
};

// Mixed lengths, masks and weights.
std::vector<StressCase> MakeStressCases();

// What a request says to be answered so.
v1::WeightsMode WireMode(WeightsSink::Mode mode);

// How long stress tests run: HEADLIGHT_STRESS_SECONDS, or a few seconds.
std::chrono::seconds StressTime();

// Whether both hold the same floats, NaN for NaN, zero sign for zero sign.
bool SameBits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_LONE_RUN_H_
