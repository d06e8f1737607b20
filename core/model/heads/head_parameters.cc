// SPDX-License-Identifier: Apache-2.0
#include "core/model/heads/head_parameters.h"

#include <iterator>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/uniform_source.h"

namespace headlight {
namespace {

absl::Status CheckCount(const std::string& name, int64_t got, int64_t wanted) {
  if (got == wanted) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": got ", got, " elements, wanted ", wanted));
}

constexpr float kStepGainBound = 0.1f;  // around 1

}  // namespace

absl::Status ValidateSteps(const std::string& name, std::span<const RowStep> steps,
                           std::span<const RowStepParameters> parameters) {
  HEADLIGHT_RETURN_IF_ERROR(CheckCount(name, std::ssize(parameters), std::ssize(steps)));
  for (size_t i = 0; i < steps.size(); ++i) {
    const RowStep& step = steps[i];
    const bool dense = step.kind == RowStep::Kind::kDense;
    const bool empty = step.kind == RowStep::Kind::kNormalize;
    const int64_t cols = empty ? 0 : dense ? step.out_dim : step.in_dim;
    HEADLIGHT_RETURN_IF_ERROR(CheckCount(absl::StrCat(name, ".", i, ".weight"),
                                         std::ssize(parameters[i].weight),
                                         dense ? step.in_dim * cols : cols));
    HEADLIGHT_RETURN_IF_ERROR(CheckCount(absl::StrCat(name, ".", i, ".bias"), std::ssize(parameters[i].bias),
                                         step.bias ? cols : 0));
  }
  return absl::OkStatus();
}

absl::Status ValidateHead(const std::string& name, const HeadConfig& head, int64_t embed_dim,
                          const HeadTables& tables) {
  HEADLIGHT_RETURN_IF_ERROR(ValidateSteps(name + ".steps", head.steps, tables.steps));
  const bool own = head.kind == HeadKind::kLanguageModel && !head.tied;
  HEADLIGHT_RETURN_IF_ERROR(CheckCount(name + ".vocab", tables.vocab.elements(),
                                       own ? head.vocab_size * OutDim(head.steps, embed_dim) : 0));
  const bool bias = head.kind == HeadKind::kLanguageModel && head.vocab_bias;
  return CheckCount(name + ".vocab_bias", std::ssize(tables.vocab_bias), bias ? head.vocab_size : 0);
}

int64_t NumParameters(std::span<const RowStepParameters> steps) {
  int64_t count = 0;
  for (const RowStepParameters& step : steps) count += std::ssize(step.weight) + std::ssize(step.bias);
  return count;
}

std::vector<RowStepParameters> RandomSteps(std::span<const RowStep> steps, uint64_t seed) {
  UniformSource source(seed);
  std::vector<RowStepParameters> parameters(steps.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    const RowStep& step = steps[i];
    if (step.kind == RowStep::Kind::kNormalize) continue;
    if (step.kind == RowStep::Kind::kDense) {
      parameters[i].weight = source.Draw(step.in_dim * step.out_dim, XavierBound(step.in_dim, step.out_dim));
      if (step.bias) parameters[i].bias = source.Draw(step.out_dim, kBiasBound);
    } else {
      parameters[i].weight = source.Draw(step.in_dim, kStepGainBound);
      for (float& gain : parameters[i].weight) gain += 1.0f;
      if (step.bias) parameters[i].bias = source.Draw(step.in_dim, kBiasBound);
    }
  }
  return parameters;
}

HeadParameters RandomHead(const HeadConfig& head, int64_t embed_dim, uint64_t seed) {
  HeadParameters parameters{.steps = RandomSteps(head.steps, seed), .vocab = {}, .vocab_bias = {}};
  if (head.kind != HeadKind::kLanguageModel) return parameters;
  UniformSource source(~seed);
  const int64_t width = OutDim(head.steps, embed_dim);
  if (!head.tied) parameters.vocab = source.Draw(head.vocab_size * width, XavierBound(width, width));
  if (head.vocab_bias) parameters.vocab_bias = source.Draw(head.vocab_size, kBiasBound);
  return parameters;
}

}  // namespace headlight
