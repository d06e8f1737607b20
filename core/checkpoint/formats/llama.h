// SPDX-License-Identifier: Apache-2.0
//
// What families have in common that are LLaMA but for a few things: causal stacks with grouped-query
// attention, rotary positions, RMSNorm and gated feed-forward networks.
#ifndef HEADLIGHT_CORE_CHECKPOINT_FORMATS_LLAMA_H_
#define HEADLIGHT_CORE_CHECKPOINT_FORMATS_LLAMA_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {

// Defaults of a family's class.
struct LlamaDefaults {
  int64_t vocab_size = 32000;
  int64_t embed_dim = 4096;
  int64_t num_layers = 32;
  int64_t num_heads = 32;
  int64_t num_kv_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;      // 0: embed_dim / num_heads
  int64_t hidden_dim = 11008;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  double norm_eps = 1e-6;
  int64_t max_position_embeddings = 2048;
  bool tied = false;  // the table of tokens and the head that draws them
};

// What the families differ in.
struct LlamaOptions {
  bool qkv_bias = false;
  bool output_bias = false;  // of attention
  bool mlp_bias = false;
  bool fused = false;  // queries, keys and values are one matrix, the gate and what it gates another
  NormPlacement norm_placement = NormPlacement::kPre;
  QkNorm qk_norm = QkNorm::kNone;
  float added_to_gains = 0.0f;  // of norms: 1 where their difference from it is stored
  // Positions of all layers, the length apart, which is read.
  RopeOptions rope;
  bool part_of_a_head_turns = false;               // rope.part says which where config.json does not
  bool rope_by_layer = false;                      // the family reads positions itself
  std::optional<double> logit_cap = std::nullopt;  // of the next token's
};

Format ReadLlamaLike(ConfigFields& fields, const Shards& checkpoint, const LlamaDefaults& defaults,
                     const LlamaOptions& options);

// Which layers have a window, by "layer_types", or `absent` where that is not there. `windows`: whether any
// may.
std::vector<bool> ReadSlidingLayers(ConfigFields& fields, std::vector<bool> absent, bool windows);

// Makes those layers of the kind `block`, and leaves the others as they are.
void SetSlidingLayers(const std::vector<bool>& sliding, const BlockConfig& block, ModelConfig& config);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FORMATS_LLAMA_H_
