// SPDX-License-Identifier: Apache-2.0
//
// What comes behind the hidden states: steps over rows, and the heads that are made of them.
#ifndef HEADLIGHT_CORE_MODEL_HEADS_HEAD_CONFIG_H_
#define HEADLIGHT_CORE_MODEL_HEADS_HEAD_CONFIG_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace headlight {

enum class RowActivation : uint8_t {
  kIdentity,
  kRelu,
  kGeluErf,
  kGeluTanh,
  kSilu,
  kTanh,
  kSigmoid,
};

// One step of what rows pass through, each row by itself.
struct RowStep {
  enum class Kind : uint8_t {
    kDense,      // y = activation(x W + b)
    kLayerNorm,  // (x - mean) / sqrt(variance + eps) * gain + bias
    kNormalize,  // x / |x|; zeros stay
  };
  Kind kind = Kind::kDense;
  int64_t in_dim = 0;
  int64_t out_dim = 0;  // of kDense; the others leave in_dim
  bool bias = true;     // of kDense and kLayerNorm
  RowActivation activation = RowActivation::kIdentity;
  double eps = 0.0;  // of kLayerNorm

  bool operator==(const RowStep&) const = default;
};

// Width of what comes out of `steps` where rows of `in_dim` go in.
int64_t OutDim(std::span<const RowStep> steps, int64_t in_dim);

// Of the widths before, between and behind the steps, the largest.
int64_t LargestDim(std::span<const RowStep> steps, int64_t in_dim);

// Multiply-adds count as two; per row.
int64_t FlopsPerRow(std::span<const RowStep> steps);

// INVALID_ARGUMENT naming the step, such as "pooled_steps[1].in_dim", that does not follow from the one
// before it or leaves the supported range.
absl::Status CheckSteps(const std::string& field, std::span<const RowStep> steps, int64_t in_dim);

enum class HeadKind : uint8_t {
  kScores,         // numbers for each sequence: the steps on what ScoresOf says
  kTokenScores,    // numbers for each token: the steps on every token
  kLanguageModel,  // a number for each id of the vocabulary: the steps, then products with a table of ids
  kTokenWeights,   // one number for each token: the steps, which end at width 1
  kTokenVectors,   // a vector of length 1 for each token: the steps, then x / |x|
};

// The row of each sequence that scores are computed of.
enum class ScoresOf : uint8_t { kFirstToken, kMean, kLastToken };

struct HeadConfig {
  HeadKind kind = HeadKind::kScores;
  std::vector<RowStep> steps;
  ScoresOf scores_of = ScoresOf::kFirstToken;  // kScores
  // kLanguageModel: logit[id] = x . table[id] + bias[id], the table [vocab_size, width] being the head's own
  // or, if it is tied, that of the embedding.
  int64_t vocab_size = 0;
  bool tied = false;
  bool vocab_bias = true;
  double logit_cap = 0.0;  // above 0: a logit becomes logit_cap * tanh(logit / logit_cap)
  // kLanguageModel: a token's logits know only what stands before it, and no sparse vector is made of them.
  bool causal = false;
  // kTokenWeights: ids that count for nothing, ascending.
  std::vector<int32_t> silent_ids;
  int64_t skipped_tokens = 0;  // kTokenVectors: the first tokens of each sequence that give none
};

// What a request may ask for.
enum class OutputKind : uint8_t {
  kHiddenStates,
  kPooled,
  kScores,
  kTokenScores,
  kTokenLogits,
  // Ids and weights: of kTokenWeights, else max over tokens of log(1 + relu(logit)) of kLanguageModel.
  kSparse,
  kTokenVectors,
};
inline constexpr OutputKind kAllOutputKinds[] = {
    OutputKind::kHiddenStates, OutputKind::kPooled, OutputKind::kScores,      OutputKind::kTokenScores,
    OutputKind::kTokenLogits,  OutputKind::kSparse, OutputKind::kTokenVectors};

// "hidden_states", "pooled", "scores", "token_scores", "token_logits", "sparse", "token_vectors".
const char* Name(OutputKind kind);

// An output that a checkpoint would have, were not something in its way.
struct RefusedOutput {
  OutputKind kind;
  std::string why;
};

// All heads of a model, at most one of each kind.
struct HeadsConfig {
  std::vector<HeadConfig> heads;
  std::vector<std::string> labels;     // what scores are of, in their order; empty where no file says
  std::vector<RefusedOutput> refused;  // no output that `heads` gives

  // The place in `heads` of what gives `kind`; -1: no head does.
  int64_t PlaceOf(OutputKind kind) const;
  const HeadConfig* Find(OutputKind kind) const {
    const int64_t place = PlaceOf(kind);
    return place < 0 ? nullptr : &heads[place];
  }
  // Numbers of an output in each of its rows; 0: there is none. Of kSparse the ids there are.
  int64_t Width(OutputKind kind, int64_t embed_dim, int64_t vocab_size) const;
  // Why there is no such output, in a sentence's end.
  std::string WhyNot(OutputKind kind) const;
  // INVALID_ARGUMENT as CheckSteps, or naming the head that is there twice or contradicts the model's sizes.
  // `table_dim` is the width of the embedding's table.
  absl::Status Validate(int64_t embed_dim, int64_t vocab_size, int64_t table_dim) const;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_HEADS_HEAD_CONFIG_H_
