// SPDX-License-Identifier: Apache-2.0
//
// What a request must be answered with: the same sequences computed alone, in process, on one thread. Answers
// from a busy server are compared with these bit for bit.
#ifndef HEADLIGHT_TESTS_E2E_LONE_RUN_H_
#define HEADLIGHT_TESTS_E2E_LONE_RUN_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/attention/layer.h"
#include "core/tensor/dtype.h"
#include "headlight/v1/attention.pb.h"

namespace headlight::e2e {

constexpr int64_t kEmbedDim = 768;  // of the built-in model

enum class MaskKind { kNone, kCausal };

// Self attention over a ragged batch.
struct Request {
  std::vector<int64_t> seq_lens;
  std::vector<float> query;  // [tokens, kEmbedDim]
  MaskKind mask = MaskKind::kNone;
  std::optional<int64_t> window_left;
  std::optional<int64_t> window_right;
};

// What is asked of the weights, as in WeightsSink.
struct WeightsChoice {
  WeightsSink::Mode mode = WeightsSink::Mode::kNone;
  int64_t top_k = 0;
  std::vector<int64_t> heads;
  int64_t query_begin = 0;
  int64_t query_end = 0;
};

// As attention.proto says; empty what was not asked for.
struct Answer {
  std::vector<float> output;  // [tokens, kEmbedDim]
  std::vector<float> weights;
  std::vector<int32_t> weights_keys;
  std::vector<float> received_mass;
};

// Values of about unit variance; the same for the same seed.
Request RandomRequest(const std::vector<int64_t>& seq_lens, uint64_t seed, MaskKind mask);

// The built-in model of the server, made anew. Fails the test if that is impossible.
const AttentionLayer& DemoModel();

Answer LoneRun(const AttentionLayer& model, const Request& request, const WeightsChoice& choice);

// A request, how it is asked for, and its answer computed alone.
struct StressCase {
  Request request;
  WeightsChoice weights;
  // Element types in which the query and the answer travel. `request` and `expected` hold the same numbers in
  // f32: what is left of the query, and what arrives of the answer.
  DType dtype = DType::kF32;
  DType output_dtype = DType::kF32;
  Answer expected;
};

// Mixed lengths, masks, windows, weights and element types.
std::vector<StressCase> MakeStressCases();

// What a request says to be answered so.
v1::WeightsMode WireMode(WeightsSink::Mode mode);
v1::DType WireDType(DType dtype);

// How long stress tests run: HEADLIGHT_STRESS_SECONDS, or a few seconds.
std::chrono::seconds StressTime();

// Whether both hold the same numbers bit for bit.
bool SameBits(const Answer& a, const Answer& b);

// Whether both hold the same floats, NaN for NaN, zero sign for zero sign.
bool SameBits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace headlight::e2e

#endif  // HEADLIGHT_TESTS_E2E_LONE_RUN_H_
