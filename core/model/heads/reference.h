// SPDX-License-Identifier: Apache-2.0
//
// What heads compute, in plain loops and double precision, of the hidden states of one sequence.
#ifndef HEADLIGHT_CORE_MODEL_HEADS_REFERENCE_H_
#define HEADLIGHT_CORE_MODEL_HEADS_REFERENCE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/heads/head_config.h"
#include "core/model/heads/head_parameters.h"

namespace headlight {

double ReferenceActivated(RowActivation activation, double x);

// rows [n, in_dim] through the steps: [n, OutDim(steps, in_dim)].
std::vector<double> ReferenceSteps(std::span<const RowStep> steps,
                                   std::span<const RowStepParameters> parameters, int64_t in_dim,
                                   std::vector<double> rows);

// Of hidden [n, embed_dim], by the head's kind:
//   kScores        [num_labels]
//   kTokenScores   [n, num_labels]
//   kLanguageModel      logits [n, vocab_size]; `tokens` is the embedding's table
//   kTokenWeights  [n]
//   kTokenVectors  [n - skipped_tokens, dim]
std::vector<double> ReferenceHead(const HeadConfig& head, const HeadParameters& parameters, int64_t embed_dim,
                                  std::span<const float> tokens, const std::vector<double>& hidden);

// log(1 + relu(largest logit)) of each id, of logits [n, vocab_size].
std::vector<double> ReferenceSparse(const std::vector<double>& logits, int64_t vocab_size);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_HEADS_REFERENCE_H_
