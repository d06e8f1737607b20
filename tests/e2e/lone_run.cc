// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/lone_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>

#include "core/runtime/compute_arena.h"
#include "core/tensor/convert.h"
#include "server/models/built_in_models.h"
#include "server/models/registry.h"

namespace headlight::e2e {

Request RandomRequest(const std::vector<int64_t>& seq_lens, uint64_t seed, MaskKind mask) {
  Request request;
  request.seq_lens = seq_lens;
  request.mask = mask;
  int64_t tokens = 0;
  for (int64_t length : seq_lens) tokens += length;
  std::mt19937_64 twister(seed);
  request.query.resize(tokens * kEmbedDim);
  for (float& value : request.query)
    value = static_cast<float>(twister() >> 40) * 0x1p-22f - 2.0f;  // [-2, 2)
  return request;
}

const AttentionLayer& DemoModel() {
  static const std::shared_ptr<const LoadedModel> model = [] {
    absl::StatusOr<std::shared_ptr<const LoadedModel>> made = MakeBuiltInModel("demo");
    if (!made.ok()) ADD_FAILURE() << made.status();
    return made.value();
  }();
  return model->model.attention();
}

namespace {

using Mode = WeightsSink::Mode;

// The rows of `answer` that each sequence fills: as the server lays them out, for the longest of them.
class WeightsLayout {
 public:
  WeightsLayout(const AttentionLayer& model, const Request& request, const WeightsChoice& choice)
      : choice_(choice) {
    longest_ = *std::max_element(request.seq_lens.begin(), request.seq_lens.end());
    const int64_t heads = choice.heads.empty() ? model.config().num_heads : std::ssize(choice.heads);
    maps_ = choice.mode == Mode::kMean ? 1 : heads;
    const int64_t queries = choice.query_end == 0 ? longest_ : choice.query_end - choice.query_begin;
    row_ = choice.mode == Mode::kTopK ? choice.top_k : longest_;
    map_ = choice.mode == Mode::kSummary ? int64_t{kNumHeadStatistics} : queries * row_;
  }

  void Resize(Answer& answer, int64_t num_sequences) const {
    if (choice_.mode == Mode::kNone) return;
    answer.weights.assign(num_sequences * maps_ * map_, 0.0f);
    if (choice_.mode == Mode::kTopK) answer.weights_keys.assign(answer.weights.size(), -1);
    if (choice_.mode == Mode::kSummary) answer.received_mass.assign(num_sequences * maps_ * longest_, 0.0f);
  }

  WeightsSink Sink(Answer& answer, int64_t sequence, int64_t length) const {
    WeightsSink sink;
    if (choice_.mode == Mode::kNone || choice_.query_begin >= length) return sink;
    sink.mode = choice_.mode;
    sink.data = answer.weights.data() + sequence * maps_ * map_;
    sink.head_stride = map_;
    sink.query_stride = row_;
    sink.heads = choice_.heads;
    sink.query_begin = choice_.query_begin;
    sink.query_end = choice_.query_end;
    sink.top_k = choice_.top_k;
    if (choice_.mode == Mode::kTopK) sink.keys = answer.weights_keys.data() + sequence * maps_ * map_;
    if (choice_.mode == Mode::kSummary) {
      sink.received_mass = answer.received_mass.data() + sequence * maps_ * longest_;
      sink.received_stride = longest_;
    }
    return sink;
  }

 private:
  const WeightsChoice& choice_;
  int64_t longest_ = 0;
  int64_t maps_ = 0;
  int64_t map_ = 0;  // numbers of one head
  int64_t row_ = 0;  // of one query
};

// What is left of `values` after a journey in `dtype`.
void PassThrough(DType dtype, std::vector<float>& values) {
  const auto count = static_cast<int64_t>(values.size());
  std::vector<std::byte> bytes(count * SizeOf(dtype));
  ConvertFromF32(values.data(), count, dtype, bytes.data());
  ConvertToF32(dtype, bytes.data(), count, values.data());
}

}  // namespace

Answer LoneRun(const AttentionLayer& model, const Request& request, const WeightsChoice& choice) {
  const int64_t num_sequences = static_cast<int64_t>(request.seq_lens.size());
  const WeightsLayout layout(model, request, choice);
  Answer answer;
  answer.output.resize(request.query.size());
  layout.Resize(answer, num_sequences);

  ComputeArena arena(1);
  const std::unique_ptr<Workspace> workspace = model.NewWorkspace(arena);
  int64_t row = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    const int64_t length = request.seq_lens[s];
    SequenceOptions options;
    options.visibility = {request.mask == MaskKind::kCausal, request.window_left, request.window_right};
    options.weights = layout.Sink(answer, s, length);
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
  struct Plan {
    std::vector<int64_t> seq_lens;
    MaskKind mask = MaskKind::kNone;
    WeightsChoice weights;
    std::optional<int64_t> window_left = std::nullopt;
    std::optional<int64_t> window_right = std::nullopt;
    DType dtype = DType::kF32;
    DType output_dtype = DType::kF32;
  };
  const std::vector<Plan> plans = {
      {.seq_lens = {1}},
      {.seq_lens = {1, 1, 1}, .mask = MaskKind::kCausal, .weights = {.mode = Mode::kFull}},
      {.seq_lens = {5, 16, 9}, .weights = {.mode = Mode::kFull}},
      {.seq_lens = {17}, .mask = MaskKind::kCausal, .weights = {.mode = Mode::kMean}},
      {.seq_lens = {64, 3}, .weights = {.mode = Mode::kMean}},
      {.seq_lens = {33, 31, 2}, .mask = MaskKind::kCausal},
      {.seq_lens = {130}},
      {.seq_lens = {70, 1, 65}, .mask = MaskKind::kCausal, .weights = {.mode = Mode::kFull}},
      {.seq_lens = {40, 7}, .weights = {.mode = Mode::kTopK, .top_k = 5}},
      {.seq_lens = {3, 90},
       .mask = MaskKind::kCausal,
       .weights = {.mode = Mode::kTopK, .top_k = 70, .heads = {11, 0}, .query_begin = 2, .query_end = 40}},
      {.seq_lens = {100, 12}, .weights = {.mode = Mode::kSummary}, .window_left = 20, .window_right = 3},
      {.seq_lens = {9, 75},
       .weights = {.mode = Mode::kSummary, .heads = {4}, .query_begin = 9, .query_end = 60},
       .output_dtype = DType::kBf16},
      {.seq_lens = {80, 20},
       .mask = MaskKind::kCausal,
       .weights = {.mode = Mode::kFull, .heads = {7, 2, 5}, .query_begin = 10, .query_end = 30},
       .window_left = 16},
      {.seq_lens = {21, 66},
       .weights = {.mode = Mode::kMean, .heads = {1, 3}},
       .window_right = 0,
       .dtype = DType::kBf16,
       .output_dtype = DType::kF16},
      {.seq_lens = {50, 2, 31}, .dtype = DType::kF16},
      {.seq_lens = {120}, .mask = MaskKind::kCausal, .window_left = 64, .output_dtype = DType::kBf16},
  };
  std::vector<StressCase> cases;
  for (size_t i = 0; i < plans.size(); ++i) {
    const Plan& plan = plans[i];
    StressCase& c = cases.emplace_back();
    c.request = RandomRequest(plan.seq_lens, /*seed=*/100 + i, plan.mask);
    c.request.window_left = plan.window_left;
    c.request.window_right = plan.window_right;
    c.weights = plan.weights;
    c.dtype = plan.dtype;
    c.output_dtype = plan.output_dtype;
    PassThrough(c.dtype, c.request.query);
    c.expected = LoneRun(DemoModel(), c.request, c.weights);
    PassThrough(c.output_dtype, c.expected.output);
    PassThrough(c.output_dtype, c.expected.weights);
    PassThrough(c.output_dtype, c.expected.received_mass);
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
    case WeightsSink::Mode::kGrid:
      return v1::WEIGHTS_MODE_GRID;
  }
  return v1::WEIGHTS_MODE_UNSPECIFIED;
}

v1::DType WireDType(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return v1::DTYPE_F16;
    case DType::kBf16:
      return v1::DTYPE_BF16;
    default:
      return v1::DTYPE_F32;
  }
}

std::chrono::seconds StressTime() {
  const char* seconds = std::getenv("HEADLIGHT_STRESS_SECONDS");
  return std::chrono::seconds(seconds == nullptr ? 4 : std::atoi(seconds));
}

bool SameBits(const Answer& a, const Answer& b) {
  return SameBits(a.output, b.output) && SameBits(a.weights, b.weights) && a.weights_keys == b.weights_keys &&
         SameBits(a.received_mass, b.received_mass);
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace headlight::e2e
