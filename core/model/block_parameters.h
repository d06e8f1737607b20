// SPDX-License-Identifier: Apache-2.0
//
// The learned parameters of one layer in plain layout.
#ifndef HEADLIGHT_CORE_MODEL_BLOCK_PARAMETERS_H_
#define HEADLIGHT_CORE_MODEL_BLOCK_PARAMETERS_H_

#include <vector>

#include "core/attention/parameters.h"

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
  // After (kPost, kBranch) or before (kPre, kSandwich, kParallel) attention; empty where there is none
  // (BlockConfig::attention_norm).
  NormParameters attention_norm;
  NormParameters feed_forward_norm;  // likewise for the feed-forward network
  // With NormPlacement::kSandwich, else empty.
  NormParameters attention_output_norm;
  NormParameters feed_forward_output_norm;
  FeedForwardParameters feed_forward;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_MODEL_BLOCK_PARAMETERS_H_
