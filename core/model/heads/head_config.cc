// SPDX-License-Identifier: Apache-2.0
#include "core/model/heads/head_config.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "core/base/check_range.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

constexpr int64_t kMaxRowDim = int64_t{1} << 20;
constexpr int64_t kMaxSteps = 64;

HeadKind HeadOf(OutputKind kind) {
  switch (kind) {
    case OutputKind::kTokenScores:
      return HeadKind::kTokenScores;
    case OutputKind::kTokenLogits:
    case OutputKind::kSparse:
      return HeadKind::kLanguageModel;
    case OutputKind::kTokenVectors:
      return HeadKind::kTokenVectors;
    default:
      return HeadKind::kScores;
  }
}

absl::Status CheckHead(const std::string& field, const HeadConfig& head, int64_t embed_dim,
                       int64_t vocab_size, int64_t table_dim) {
  HEADLIGHT_RETURN_IF_ERROR(CheckSteps(field + "steps", head.steps, embed_dim));
  const int64_t out_dim = OutDim(head.steps, embed_dim);
  if (head.kind == HeadKind::kTokenWeights) {
    HEADLIGHT_RETURN_IF_ERROR(CheckRange(field + "out_dim", out_dim, 1, 1));
  }
  if (head.kind == HeadKind::kTokenVectors) {
    HEADLIGHT_RETURN_IF_ERROR(CheckRange(field + "skipped_tokens", head.skipped_tokens, 0, 1));
  }
  if (head.kind != HeadKind::kLanguageModel) return absl::OkStatus();
  if (!(head.logit_cap >= 0.0) || !std::isfinite(head.logit_cap)) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, "logit_cap: got ", head.logit_cap, ", wanted a number above 0, or 0 for none"));
  }
  if (!head.tied) return CheckRange(field + "vocab_size", head.vocab_size, 1, INT32_MAX);
  HEADLIGHT_RETURN_IF_ERROR(CheckRange(field + "out_dim", out_dim, table_dim, table_dim));
  return CheckRange(field + "vocab_size", head.vocab_size, vocab_size, vocab_size);
}

}  // namespace

int64_t OutDim(std::span<const RowStep> steps, int64_t in_dim) {
  for (const RowStep& step : steps) {
    if (step.kind == RowStep::Kind::kDense) in_dim = step.out_dim;
  }
  return in_dim;
}

int64_t LargestDim(std::span<const RowStep> steps, int64_t in_dim) {
  int64_t largest = in_dim;
  for (const RowStep& step : steps) largest = std::max({largest, step.in_dim, step.out_dim});
  return largest;
}

int64_t FlopsPerRow(std::span<const RowStep> steps) {
  int64_t flops = 0;
  for (const RowStep& step : steps) {
    if (step.kind == RowStep::Kind::kDense) flops += 2 * step.in_dim * step.out_dim;
  }
  return flops;
}

absl::Status CheckSteps(const std::string& field, std::span<const RowStep> steps, int64_t in_dim) {
  HEADLIGHT_RETURN_IF_ERROR(CheckRange(field, std::ssize(steps), 0, kMaxSteps));
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::string name = absl::StrCat(field, "[", i, "].");
    HEADLIGHT_RETURN_IF_ERROR(CheckRange(name + "in_dim", steps[i].in_dim, in_dim, in_dim));
    if (steps[i].kind != RowStep::Kind::kDense) continue;
    HEADLIGHT_RETURN_IF_ERROR(CheckRange(name + "out_dim", steps[i].out_dim, 1, kMaxRowDim));
    in_dim = steps[i].out_dim;
  }
  return absl::OkStatus();
}

const char* Name(OutputKind kind) {
  switch (kind) {
    case OutputKind::kHiddenStates:
      return "hidden_states";
    case OutputKind::kPooled:
      return "pooled";
    case OutputKind::kScores:
      return "scores";
    case OutputKind::kTokenScores:
      return "token_scores";
    case OutputKind::kTokenLogits:
      return "token_logits";
    case OutputKind::kSparse:
      return "sparse";
    case OutputKind::kTokenVectors:
      return "token_vectors";
  }
  return "";
}

int64_t HeadsConfig::PlaceOf(OutputKind kind) const {
  if (kind == OutputKind::kHiddenStates || kind == OutputKind::kPooled) return -1;
  int64_t place = -1;
  for (int64_t i = 0; i < std::ssize(heads); ++i) {
    if (kind == OutputKind::kSparse && heads[i].kind == HeadKind::kTokenWeights) return i;
    if (kind == OutputKind::kSparse && heads[i].causal) continue;
    if (heads[i].kind == HeadOf(kind)) place = i;
  }
  const bool refuses = std::any_of(refused.begin(), refused.end(),
                                   [&](const RefusedOutput& output) { return output.kind == kind; });
  return refuses ? -1 : place;
}

int64_t HeadsConfig::Width(OutputKind kind, int64_t embed_dim, int64_t vocab_size) const {
  const HeadConfig* const head = Find(kind);
  if (head == nullptr) return 0;
  if (head->kind == HeadKind::kLanguageModel) return head->vocab_size;
  if (head->kind == HeadKind::kTokenWeights) return vocab_size;
  return OutDim(head->steps, embed_dim);
}

std::string HeadsConfig::WhyNot(OutputKind kind) const {
  for (const RefusedOutput& output : refused) {
    if (output.kind == kind) return output.why;
  }
  const bool causal =
      std::any_of(heads.begin(), heads.end(), [](const HeadConfig& head) { return head.causal; });
  if (kind == OutputKind::kSparse && causal) {
    return "a causal language model's logits of a token know nothing of what comes behind it";
  }
  return "its files have no such head";
}

absl::Status HeadsConfig::Validate(int64_t embed_dim, int64_t vocab_size, int64_t table_dim) const {
  for (size_t i = 0; i < heads.size(); ++i) {
    const std::string field = absl::StrCat("heads[", i, "].");
    for (size_t other = 0; other < i; ++other) {
      if (heads[other].kind != heads[i].kind) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(field, "kind: got that of heads[", other, "], wanted each once"));
    }
    HEADLIGHT_RETURN_IF_ERROR(CheckHead(field, heads[i], embed_dim, vocab_size, table_dim));
  }
  return absl::OkStatus();
}

}  // namespace headlight
