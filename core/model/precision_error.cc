// SPDX-License-Identifier: Apache-2.0
#include "core/model/precision_error.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/base/catch_exceptions.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

constexpr uint64_t kProbeSeed = 20170612;

// The sequences that both models see.
struct Probe {
  explicit Probe(const ModelConfig& config) {
    std::mt19937_64 twister(kProbeSeed);
    const int64_t max_len = config.embedding ? config.embedding->max_seq_len() : INT64_MAX;
    for (const int64_t len : kProbeLens) cu_lens.push_back(cu_lens.back() + std::min(len, max_len));
    if (config.embedding) {
      const auto vocab_size = static_cast<uint64_t>(config.embedding->vocab_size);
      token_ids.resize(cu_lens.back());
      for (int32_t& id : token_ids) id = static_cast<int32_t>(twister() % vocab_size);
      return;
    }
    const AttentionConfig& attention = config.block.attention;
    const auto draw = [&](int64_t width) {
      std::vector<float> values(cu_lens.back() * width);
      for (float& value : values) value = static_cast<float>(twister() >> 40) * 0x1p-23f - 1.0f;
      return values;
    };
    query = draw(attention.embed_dim);
    if (attention.kdim != attention.embed_dim) key = draw(attention.kdim);
    if (attention.vdim != attention.kdim) value = draw(attention.vdim);
  }

  std::vector<int64_t> cu_lens = {0};
  std::vector<int32_t> token_ids;
  std::vector<float> query, key, value;  // key and value empty where they are the one before
};

absl::StatusOr<std::vector<float>> OutputOf(const Model& model, const Probe& probe) {
  const AttentionConfig& config = model.config().block.attention;
  const int64_t tokens = probe.cu_lens.back();
  const std::vector<SequenceOptions> sequences(probe.cu_lens.size() - 1);
  std::vector<float> output(tokens * config.embed_dim);
  ModelBatch batch;
  AttentionBatch& attention = batch.attention;
  if (probe.token_ids.empty()) {
    attention.query = {probe.query.data(), tokens, config.embed_dim, config.embed_dim};
    attention.key = attention.query;
    if (!probe.key.empty()) attention.key = {probe.key.data(), tokens, config.kdim, config.kdim};
    attention.value = attention.key;
    if (!probe.value.empty()) attention.value = {probe.value.data(), tokens, config.vdim, config.vdim};
  }
  attention.cu_q_lens = probe.cu_lens;
  attention.cu_kv_lens = probe.cu_lens;
  attention.sequences = sequences;
  attention.output = {output.data(), tokens, config.embed_dim, config.embed_dim};
  batch.token_ids = probe.token_ids;
  ComputeArena arena(1);
  const std::unique_ptr<ModelWorkspace> workspace = model.NewWorkspace(arena);
  HEADLIGHT_RETURN_IF_ERROR(model.Forward(batch, arena, *workspace));
  return output;
}

// What a model of these parameters in f32 makes of the probe. Only one layer of it is there at a time: a
// second model beside the first one would be the most memory that loading takes.
absl::StatusOr<std::vector<float>> ExactOutput(const Model& model, const ParameterSource& source,
                                               Probe probe) {
  ModelConfig config = model.config();
  config.SetPrecision(Precision::kF32);
  config.SetParametersPrecision(Precision::kF32);
  if (config.embedding) {
    const int64_t tokens = probe.cu_lens.back();
    const int64_t width = config.block.attention.embed_dim;
    probe.query.resize(tokens * width);
    model.Embed(probe.token_ids, probe.cu_lens, {probe.query.data(), tokens, width, width});
    probe.token_ids.clear();
  }
  BlockParameters memory;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    HEADLIGHT_ASSIGN_OR_RETURN(const Model exact, Model::CreateLayer(config, source, layer, memory));
    HEADLIGHT_ASSIGN_OR_RETURN(probe.query, OutputOf(exact, probe));
  }
  return std::move(probe.query);
}

// Of `got` against `wanted`, which are equally many.
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

}  // namespace

std::string PrecisionWarning(const PrecisionError& error, Precision parameters) {
  if (error.cosine >= ExpectedCosine(parameters)) return "";
  return absl::StrFormat(
      "%s takes the outputs further from f32 than it should: cosine %.6f of the probe, wanted %g; ask for a "
      "wider "
      "precision, or compare on data of your own",
      Name(parameters), error.cosine, ExpectedCosine(parameters));
}

absl::StatusOr<PrecisionError> MeasurePrecisionError(const Model& model, const ParameterSource& source) {
  if (model.attention().parameters_precision() == Precision::kF32) return PrecisionError();
  PrecisionError error;
  HEADLIGHT_RETURN_IF_ERROR(CatchExceptions("measuring the precision", [&]() -> absl::Status {
    const Probe probe(model.config());
    HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<float> wanted, ExactOutput(model, source, probe));
    HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<float> got, OutputOf(model, probe));
    error = ComparePrecision(got, wanted);
    return absl::OkStatus();
  }));
  return error;
}

}  // namespace headlight
