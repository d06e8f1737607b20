// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/lone_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "core/runtime/compute_arena.h"
#include "server/registry.h"

namespace headlight::e2e {

Request RandomRequest(const std::vector<int64_t>& seq_lens, uint64_t seed, MaskKind mask) {
  Request request{seq_lens, {}, mask};
  int64_t tokens = 0;
  for (int64_t length : seq_lens) tokens += length;
  std::mt19937_64 twister(seed);
  request.query.resize(tokens * kEmbedDim);
  for (float& value : request.query)
    value = static_cast<float>(twister() >> 40) * 0x1p-22f - 2.0f;  // [-2, 2)
  return request;
}

const MultiHeadAttention& DemoModel() {
  static const std::shared_ptr<const LoadedModel> model = [] {
    absl::StatusOr<std::shared_ptr<const LoadedModel>> made = MakeBuiltInModel("demo");
    if (!made.ok()) ADD_FAILURE() << made.status();
    return made.value();
  }();
  return model->attention;
}

Answer LoneRun(const MultiHeadAttention& model, const Request& request, WeightsSink::Mode mode) {
  const int64_t num_sequences = static_cast<int64_t>(request.seq_lens.size());
  const int64_t longest = *std::max_element(request.seq_lens.begin(), request.seq_lens.end());
  const int64_t maps = mode == WeightsSink::Mode::kFull ? model.config().num_heads : 1;
  Answer answer;
  answer.output.resize(request.query.size());
  if (mode != WeightsSink::Mode::kNone) answer.weights.assign(num_sequences * maps * longest * longest, 0.0f);

  ComputeArena arena(1);
  const std::unique_ptr<Workspace> workspace = model.NewWorkspace(arena);
  int64_t row = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    const int64_t length = request.seq_lens[s];
    SequenceOptions options;
    options.visibility.causal = request.mask == MaskKind::kCausal;
    if (mode != WeightsSink::Mode::kNone) {
      options.weights = {mode, answer.weights.data() + s * maps * longest * longest, longest * longest,
                         longest};
    }
    const std::vector<int64_t> cu_lens = {0, length};
    const MatrixView input{request.query.data() + row * kEmbedDim, length, kEmbedDim, kEmbedDim};
    const AttentionBatch batch{
        .query = input,
        .key = input,
        .value = input,
        .cu_q_lens = cu_lens,
        .cu_kv_lens = cu_lens,
        .sequences = {&options, 1},
        .output = {answer.output.data() + row * kEmbedDim, length, kEmbedDim, kEmbedDim}};
    const absl::Status status = model.Forward(batch, arena, *workspace);
    EXPECT_TRUE(status.ok()) << status;
    row += length;
  }
  return answer;
}

std::vector<StressCase> MakeStressCases() {
  using Mode = WeightsSink::Mode;
  struct Plan {
    std::vector<int64_t> seq_lens;
    MaskKind mask;
    Mode weights;
  };
  const std::vector<Plan> plans = {
      {{1}, MaskKind::kNone, Mode::kNone},        {{1, 1, 1}, MaskKind::kCausal, Mode::kFull},
      {{5, 16, 9}, MaskKind::kNone, Mode::kFull}, {{17}, MaskKind::kCausal, Mode::kMean},
      {{64, 3}, MaskKind::kNone, Mode::kMean},    {{33, 31, 2}, MaskKind::kCausal, Mode::kNone},
      {{130}, MaskKind::kNone, Mode::kNone},      {{70, 1, 65}, MaskKind::kCausal, Mode::kFull},
  };
  std::vector<StressCase> cases;
  for (size_t i = 0; i < plans.size(); ++i) {
    StressCase& c = cases.emplace_back();
    c.request = RandomRequest(plans[i].seq_lens, /*seed=*/100 + i, plans[i].mask);
    c.weights = plans[i].weights;
    c.expected = LoneRun(DemoModel(), c.request, c.weights);
  }
  return cases;
}

v1::WeightsMode WireMode(WeightsSink::Mode mode) {
  switch (mode) {
    case WeightsSink::Mode::kNone:
      return v1::WEIGHTS_MODE_NONE;
    case WeightsSink::Mode::kFull:
      return v1::WEIGHTS_MODE_FULL;
    case WeightsSink::Mode::kMean:
      return v1::WEIGHTS_MODE_MEAN;
    case WeightsSink::Mode::kTopK:
      return v1::WEIGHTS_MODE_TOP_K;
    case WeightsSink::Mode::kSummary:
      return v1::WEIGHTS_MODE_SUMMARY;
  }
  return v1::WEIGHTS_MODE_UNSPECIFIED;
}

std::chrono::seconds StressTime() {
  const char* seconds = std::getenv("HEADLIGHT_STRESS_SECONDS");
  return std::chrono::seconds(seconds == nullptr ? 4 : std::atoi(seconds));
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace headlight::e2e
