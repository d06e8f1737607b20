// SPDX-License-Identifier: Apache-2.0
//
// Gemma 3 (Gemma team 2025, arXiv:2503.19786), the text model, and EmbeddingGemma, which is one that sees
// both sides: LLaMA with norms on both sides of attention and the feed-forward network, norms of queries and
// keys, embeddings that are scaled, and windows of most layers, which turn by a base of their own.
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/llama.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

// Every sixth layer sees all, or as "sliding_window_pattern" says.
std::vector<bool> ReadGemmaLayers(ConfigFields& fields, int64_t num_layers) {
  int64_t pattern = 6;
  if (fields.Has("layer_types")) {
    fields.WithoutEffect({"sliding_window_pattern", "_sliding_window_pattern"});
  } else {
    pattern = fields.Int("sliding_window_pattern", 1, kMaxDimension, pattern);
    // What transformers writes beside layer_types, and does not read.
    fields.Only("_sliding_window_pattern", {absl::StrCat(pattern).c_str()});
  }
  std::vector<bool> sliding;
  for (int64_t i = 0; i < num_layers; ++i) sliding.push_back((i + 1) % pattern != 0);
  return ReadSlidingLayers(fields, sliding, /*windows=*/true);
}

// Of layers that slide. Where both sides are seen, half of the window is before the query and half behind it.
void ReadGemmaWindow(ConfigFields& fields, bool both_sides, AttentionConfig& attention) {
  if (fields.IsNull("sliding_window")) {
    fields.Fail(Problem::kInvalid, "sliding_window", "got null, wanted a number for the layers that slide");
  }
  const int64_t window = fields.Int("sliding_window", both_sides ? 0 : 1, INT64_MAX, 4096);
  attention.window_left = both_sides ? window / 2 : window - 1;
  if (both_sides) attention.window_right = window / 2;
}

}  // namespace

Format ReadGemma3Text(ConfigFields& fields, const Shards& checkpoint) {
  LlamaOptions options = {.norm_placement = NormPlacement::kSandwich,
                          .qk_norm = QkNorm::kEachHead,
                          .added_to_gains = 1.0f,
                          .rope_by_layer = true};
  options.logit_cap = fields.OptionalNumber("final_logit_softcapping");
  options.qkv_bias = options.output_bias = fields.Bool("attention_bias", false);
  const LlamaDefaults defaults = {.vocab_size = 262208,
                                  .embed_dim = 2304,
                                  .num_layers = 26,
                                  .num_heads = 8,
                                  .num_kv_heads = 4,
                                  .head_dim = 256,
                                  .hidden_dim = 9216,
                                  .activation_key = "hidden_activation",
                                  .activation = "gelu_pytorch_tanh",
                                  .max_position_embeddings = 131072,
                                  .tied = true};
  Format format = ReadLlamaLike(fields, checkpoint, defaults, options);
  ModelConfig& config = format.config;
  AttentionConfig& attention = config.block.attention;
  // transformers rounds the factor to f32.
  config.embedding->scale =
      static_cast<double>(static_cast<float>(std::sqrt(static_cast<double>(attention.embed_dim))));
  attention.scale = 1.0 / std::sqrt(fields.Number("query_pre_attn_scalar", 256.0));
  const bool both_sides = fields.Bool("use_bidirectional_attention", false);
  config.causal = !both_sides;
  RopeOptions rope = {.max_position_embeddings = fields.Int("max_position_embeddings", 1, kMaxDimension,
                                                            defaults.max_position_embeddings),
                      .theta = 1e6};
  attention.rope = ReadLayerRope(fields, kFullAttention, /*scaled=*/true, rope);
  BlockConfig windowed = config.block;
  rope.theta = 1e4;
  rope.theta_key = "rope_local_base_freq";
  windowed.attention.rope = ReadLayerRope(fields, kSlidingAttention, /*scaled=*/false, rope);
  const std::vector<bool> sliding = ReadGemmaLayers(fields, config.num_layers);
  ReadGemmaWindow(fields, both_sides, windowed.attention);
  SetSlidingLayers(sliding, windowed, config);
  // transformers reads it and does nothing with it; other implementations cap scores.
  fields.Only("attn_logit_softcapping", {"null"});
  // How keys are kept.
  fields.WithoutEffect({"cache_implementation"});
  return format;
}

}  // namespace headlight
