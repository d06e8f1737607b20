// SPDX-License-Identifier: Apache-2.0
//
// The learned parameters of steps over rows and of heads.
#ifndef HEADLIGHT_CORE_MODEL_HEADS_HEAD_PARAMETERS_H_
#define HEADLIGHT_CORE_MODEL_HEADS_HEAD_PARAMETERS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/model/embedding_table.h"
#include "core/model/heads/head_config.h"

namespace headlight {

struct RowStepParameters {
  std::vector<float> weight;  // kDense: [in_dim, out_dim], y = x W + b; kLayerNorm: the gain [in_dim]
  std::vector<float> bias;    // [out_dim] or [in_dim]; empty: none
};

// In plain layout.
struct HeadParameters {
  std::vector<RowStepParameters> steps;
  std::vector<float> vocab;       // kLanguageModel with a table of its own: [vocab_size, width]
  std::vector<float> vocab_bias;  // [vocab_size] or empty
};

// The same with the table as it is held.
struct HeadTables {
  std::vector<RowStepParameters> steps;
  EmbeddingTable vocab;
  std::vector<float> vocab_bias;
};

// INVALID_ARGUMENT naming the tensor, such as "heads.0.steps.1.weight", whose size does not fit.
absl::Status ValidateSteps(const std::string& name, std::span<const RowStep> steps,
                           std::span<const RowStepParameters> parameters);
absl::Status ValidateHead(const std::string& name, const HeadConfig& head, int64_t embed_dim,
                          const HeadTables& tables);

int64_t NumParameters(std::span<const RowStepParameters> steps);

// For tests: matrices Xavier uniform, gains around 1; the same on every machine.
std::vector<RowStepParameters> RandomSteps(std::span<const RowStep> steps, uint64_t seed);
HeadParameters RandomHead(const HeadConfig& head, int64_t embed_dim, uint64_t seed);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_HEADS_HEAD_PARAMETERS_H_
