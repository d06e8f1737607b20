// SPDX-License-Identifier: Apache-2.0
//
// Qwen2 (Yang et al. 2024, arXiv:2407.10671), which is LLaMA with biases of queries, keys and values and
// windows of some layers, and Qwen3 (Yang et al. 2025, arXiv:2505.09388), which has norms of queries and keys
// instead of the biases.
#include <cstdint>
#include <optional>
#include <vector>

#include "core/checkpoint/formats/llama.h"

namespace headlight {
namespace {

// Windows are off unless they are switched on, and then those of the layers that "layer_types" names, or from
// one layer on.
void ReadQwenWindows(ConfigFields& fields, ModelConfig& config) {
  std::optional<int64_t> window;
  if (fields.Bool("use_sliding_window", false)) {
    if (!fields.IsNull("sliding_window")) window = fields.Int("sliding_window", 1, INT64_MAX, 4096);
  } else {
    fields.WithoutEffect({"sliding_window"});
  }
  const int64_t first = fields.Int("max_window_layers", 0, INT64_MAX, 28);
  std::vector<bool> sliding;
  for (int64_t i = 0; i < config.num_layers; ++i) sliding.push_back(window && i >= first);
  sliding = ReadSlidingLayers(fields, sliding, window.has_value());
  BlockConfig windowed = config.block;
  windowed.attention.window_left = window.value_or(1) - 1;
  SetSlidingLayers(sliding, windowed, config);
}

}  // namespace

Format ReadQwen2(ConfigFields& fields, const Shards& checkpoint) {
  Format format = ReadLlamaLike(
      fields, checkpoint,
      {.vocab_size = 151936, .num_kv_heads = 32, .hidden_dim = 22016, .max_position_embeddings = 32768},
      {.qkv_bias = true});
  ReadQwenWindows(fields, format.config);
  return format;
}

Format ReadQwen3(ConfigFields& fields, const Shards& checkpoint) {
  LlamaOptions options = {.qk_norm = QkNorm::kEachHead};
  options.qkv_bias = options.output_bias = fields.Bool("attention_bias", false);
  Format format = ReadLlamaLike(fields, checkpoint,
                                {.vocab_size = 151936,
                                 .num_kv_heads = 32,
                                 .head_dim = 128,
                                 .hidden_dim = 22016,
                                 .max_position_embeddings = 32768},
                                options);
  ReadQwenWindows(fields, format.config);
  return format;
}

}  // namespace headlight
