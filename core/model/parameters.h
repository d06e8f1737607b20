// SPDX-License-Identifier: Apache-2.0
//
// The learned parameters of a whole model in plain layout, as generators make them and tests want them. A
// Model packs its own copy once and does not keep this one.
#ifndef HEADLIGHT_CORE_MODEL_PARAMETERS_H_
#define HEADLIGHT_CORE_MODEL_PARAMETERS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/model/block_parameters.h"
#include "core/model/config.h"
#include "core/model/parameter_source.h"

namespace headlight {

// Used with ModelConfig::embedding.
struct EmbeddingParameters {
  std::vector<float> tokens;       // [vocab_size, dim]
  std::vector<float> positions;    // [num_positions, dim] or empty
  std::vector<float> token_types;  // [num_token_types, dim] or empty
  NormParameters norm;             // with EmbeddingConfig::norm
  // With EmbeddingConfig::projected.
  std::vector<float> projection;       // [dim, embed_dim]
  std::vector<float> projection_bias;  // [embed_dim] or empty
};

struct ModelParameters : ParameterSource {
  EmbeddingParameters embedding;
  std::vector<BlockParameters> layers;          // num_layers of them; those that share another's are empty
  NormParameters final_norm;                    // with ModelConfig::final_norm
  std::vector<RowStepParameters> pooled_steps;  // as many as in the config, and so are heads
  std::vector<HeadParameters> heads;

  // As a source: copies tables and norms, and of the layers nothing.
  absl::Status Validate(const ModelConfig& config) const override;
  int64_t NumParameters() const override;
  absl::StatusOr<EmbeddingTables> Embedding() const override;
  absl::StatusOr<const BlockParameters*> Layer(int64_t layer, BlockParameters& memory) const override;
  absl::StatusOr<NormParameters> FinalNorm() const override { return final_norm; }
  absl::StatusOr<std::vector<RowStepParameters>> PooledSteps() const override { return pooled_steps; }
  absl::StatusOr<HeadTables> Head(int64_t place) const override;
};

// INVALID_ARGUMENT naming the tensor of layer `layer` whose size does not fit `config` (resolved), such as
// "layers.3.feed_forward.up"; and the same for what is beside the layers.
absl::Status ValidateLayer(const ModelConfig& config, int64_t layer, const BlockParameters& parameters);
absl::Status ValidateNorm(const std::string& name, const NormParameters& norm, NormKind kind,
                          int64_t embed_dim);

// For demos and tests, the same bits on every machine: each layer's attention as RandomParameters draws it,
// other matrices Xavier uniform, norms around 1, embeddings normal-sized. `config` must be resolved. A single
// bare attention layer has the weights of RandomParameters(config.block.attention, seed).
ModelParameters RandomModelParameters(const ModelConfig& config, uint64_t seed);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_PARAMETERS_H_
