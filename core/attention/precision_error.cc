// SPDX-License-Identifier: Apache-2.0
#include "core/attention/precision_error.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "core/attention/batch.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

constexpr uint64_t kProbeSeed = 20170612;

const std::vector<int64_t>& ProbeLengths() {
  static const auto& lengths = *new std::vector<int64_t>{0, 1, 18, 82};  // cumulated: 1, 17 and 64 tokens
  return lengths;
}

std::vector<float> ProbeMatrix(int64_t width, std::mt19937_64& twister) {
  std::vector<float> values(ProbeLengths().back() * width);
  for (float& value : values) value = static_cast<float>(twister() >> 40) * 0x1p-23f - 1.0f;
  return values;
}

// The probe's inputs; key and value are the query where the layer's widths allow it.
struct Probe {
  std::vector<float> query, key, value;

  explicit Probe(const AttentionConfig& config) {
    std::mt19937_64 twister(kProbeSeed);
    query = ProbeMatrix(config.embed_dim, twister);
    key = config.kdim == config.embed_dim ? query : ProbeMatrix(config.kdim, twister);
    value = config.vdim == config.kdim ? key : ProbeMatrix(config.vdim, twister);
  }
};

absl::StatusOr<std::vector<float>> OutputOf(const MultiHeadAttention& attention, const Probe& probe) {
  const AttentionConfig& config = attention.config();
  const int64_t tokens = ProbeLengths().back();
  const std::vector<SequenceOptions> sequences(ProbeLengths().size() - 1);
  std::vector<float> output(tokens * config.embed_dim);
  AttentionBatch batch;
  batch.query = {probe.query.data(), tokens, config.embed_dim, config.embed_dim};
  batch.key = {probe.key.data(), tokens, config.kdim, config.kdim};
  batch.value = {probe.value.data(), tokens, config.vdim, config.vdim};
  batch.cu_q_lens = ProbeLengths();
  batch.cu_kv_lens = ProbeLengths();
  batch.sequences = sequences;
  batch.output = {output.data(), tokens, config.embed_dim, config.embed_dim};
  ComputeArena arena(1);
  const std::unique_ptr<Workspace> workspace = attention.NewWorkspace(arena);
  HEADLIGHT_RETURN_IF_ERROR(attention.Forward(batch, arena, *workspace));
  return output;
}

}  // namespace

PrecisionError ComparePrecision(std::span<const float> got, std::span<const float> wanted) {
  PrecisionError error;
  double squares = 0, dot = 0, got_squares = 0, wanted_squares = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double a = got[i];
    const double b = wanted[i];
    error.max_abs = std::max(error.max_abs, std::fabs(a - b));
    squares += (a - b) * (a - b);
    dot += a * b;
    got_squares += a * a;
    wanted_squares += b * b;
  }
  error.rms = std::sqrt(squares / static_cast<double>(got.size()));
  const double norms = std::sqrt(got_squares) * std::sqrt(wanted_squares);
  if (norms > 0) {
    error.cosine = std::clamp(dot / norms, -1.0, 1.0);  // rounding may lead beyond
  } else {
    error.cosine = got_squares == wanted_squares ? 1.0 : 0.0;  // a vector of zeros has no angle
  }
  return error;
}

absl::StatusOr<PrecisionError> MeasurePrecisionError(const MultiHeadAttention& attention,
                                                     const AttentionWeights& weights) {
  if (attention.precision() == Precision::kF32) return PrecisionError();
  AttentionConfig config = attention.config();
  config.precision = Precision::kF32;
  HEADLIGHT_ASSIGN_OR_RETURN(const MultiHeadAttention exact, MultiHeadAttention::Create(config, weights));
  const Probe probe(config);
  HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<float> wanted, OutputOf(exact, probe));
  HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<float> got, OutputOf(attention, probe));
  return ComparePrecision(got, wanted);
}

}  // namespace headlight
