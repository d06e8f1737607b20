// SPDX-License-Identifier: Apache-2.0
//
// The learned parameters of a model in plain layout, as loaders and generators make them. A Model packs its
// own copy once and does not keep this one.
#ifndef HEADLIGHT_CORE_MODEL_PARAMETERS_H_
#define HEADLIGHT_CORE_MODEL_PARAMETERS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/attention/parameters.h"
#include "core/model/config.h"

namespace headlight {

// All matrices are f32, row-major [in, out], so that y = x W + b. An empty bias means none.

struct NormParameters {
  std::vector<float> gain;  // [embed_dim]
  std::vector<float> bias;  // [embed_dim]; empty for kRmsNorm, may be empty for kLayerNorm
};

struct FeedForwardParameters {
  std::vector<float> up;         // [embed_dim, hidden_dim]
  std::vector<float> up_bias;    // [hidden_dim]
  std::vector<float> gate;       // [embed_dim, hidden_dim] if gated, else empty
  std::vector<float> gate_bias;  // [hidden_dim]
  std::vector<float> down;       // [hidden_dim, embed_dim]
  std::vector<float> down_bias;  // [embed_dim]
};

struct BlockParameters {
  AttentionParameters attention;
  // Unused with NormPlacement::kNone.
  NormParameters attention_norm;     // after (kPost) or before (kPre) attention
  NormParameters feed_forward_norm;  // likewise for the feed-forward network
  FeedForwardParameters feed_forward;
};

// Used with ModelConfig::embedding.
struct EmbeddingParameters {
  std::vector<float> tokens;       // [vocab_size, embed_dim]
  std::vector<float> positions;    // [num_positions, embed_dim] or empty
  std::vector<float> token_types;  // [num_token_types, embed_dim] or empty
  NormParameters norm;                // with EmbeddingConfig::norm
};

struct ModelParameters {
  EmbeddingParameters embedding;
  std::vector<BlockParameters> layers;  // num_layers of them
  NormParameters final_norm;            // with ModelConfig::final_norm

  // INVALID_ARGUMENT naming the tensor whose size does not fit `config` (resolved), such as
  // "layers.3.feed_forward.up".
  absl::Status Validate(const ModelConfig& config) const;

  int64_t NumParameters() const;
};

// For demos and tests, the same bits on every machine: each layer's attention as RandomParameters draws it,
// other matrices Xavier uniform, norms around 1, embeddings normal-sized. `config` must be resolved. A single
// bare attention layer has the weights of RandomParameters(config.block.attention, seed).
ModelParameters RandomModelParameters(const ModelConfig& config, uint64_t seed);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_PARAMETERS_H_
