// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/model_batch.h"

#include <random>

namespace headlight::bench {

ModelConfig EncoderConfig() {
  ModelConfig config;
  config.embedding =
      EmbeddingConfig{.vocab_size = 30522, .num_positions = 512, .num_token_types = 2, .norm = true};
  config.block.attention = {.embed_dim = 384, .num_heads = 12};
  config.block.norm_placement = NormPlacement::kPost;
  config.block.norm_eps = 1e-12;
  config.block.feed_forward = {.hidden_dim = 1536, .activation = Activation::kGeluErf};
  config.num_layers = 6;
  return config.Resolved();
}

ModelBenchBatch::ModelBenchBatch(const ModelConfig& config, int64_t num_sequences, int64_t seq_len)
    : width(config.block.attention.embed_dim),
      input(config.embedding ? 0 : num_sequences * seq_len * width),
      output(Buffer::Allocate(num_sequences * seq_len * width * int64_t{sizeof(float)})),
      pooled(num_sequences * width),
      sequences(num_sequences) {
  std::mt19937 twister(1);
  for (int64_t i = 0; i <= num_sequences; ++i) cu_lens.push_back(i * seq_len);
  const int64_t tokens = cu_lens.back();
  if (config.embedding) {
    for (int64_t i = 0; i < tokens; ++i) {
      token_ids.push_back(static_cast<int32_t>(twister() % config.embedding->vocab_size));
    }
  } else {
    for (float& value : input) value = static_cast<float>(twister() >> 8) * 0x1p-23f - 1.0f;
    batch.attention.query = {input.data(), tokens, width, width};
    batch.attention.key = batch.attention.value = batch.attention.query;
  }
  batch.token_ids = token_ids;
  batch.attention.cu_q_lens = batch.attention.cu_kv_lens = cu_lens;
  batch.attention.sequences = sequences;
  batch.attention.output = {output.floats(), tokens, width, width};
}

}  // namespace headlight::bench
