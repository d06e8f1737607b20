// SPDX-License-Identifier: Apache-2.0
//
// Phi-3 (Abdin et al. 2024, arXiv:2404.14219): LLaMA with fused matrices, a part of each head that turns, a
// window of all layers and positions scaled pair by pair.
#include <cstdint>

#include "core/checkpoint/formats/llama.h"

namespace headlight {

Format ReadPhi3(ConfigFields& fields, const Shards& checkpoint) {
  LlamaOptions options = {.fused = true, .part_of_a_head_turns = true};
  options.rope.only_longrope = true;
  options.rope.original_max_position_embeddings = 4096;
  Format format = ReadLlamaLike(fields, checkpoint,
                                {.vocab_size = 32064,
                                 .embed_dim = 3072,
                                 .hidden_dim = 8192,
                                 .norm_eps = 1e-5,
                                 .max_position_embeddings = 4096},
                                options);
  // A query sees this many keys, itself among them.
  if (fields.Has("sliding_window")) {
    format.config.block.attention.window_left = fields.Int("sliding_window", 1, INT64_MAX) - 1;
  }
  // What code that came with some of the models knew, and transformers does not.
  for (const char* key : {"attention_bias", "mlp_bias"}) fields.Only(key, {"false"});
  for (const char* key : {"full_attn_mod", "interpolate_factor"}) fields.Only(key, {"1"});
  fields.WithoutEffect({"resid_pdrop", "embd_pdrop", "embed_pdrop", "lm_head_bias"});
  return format;
}

}  // namespace headlight
