// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/families.h"

#include <cmath>

#include "tests/bench/model_batch.h"

namespace headlight::bench {
namespace {

// Vocabularies are shorter than published ones: ids are looked up, and no more.
constexpr int64_t kVocabSize = 5000;

// 12 layers, 768 wide, as most base models are.
ModelConfig BertBase() {
  ModelConfig config = EncoderConfig();
  config.block.attention = {.embed_dim = 768, .num_heads = 12};
  config.block.feed_forward.hidden_dim = 3072;
  config.num_layers = 12;
  config.embedding =
      EmbeddingConfig{.vocab_size = kVocabSize, .num_positions = 512, .num_token_types = 2, .norm = true};
  return config;
}

// The same with rotary positions and a gated network.
ModelConfig RotaryBase(int64_t hidden_dim, Activation activation, double theta) {
  ModelConfig config = BertBase();
  config.embedding->num_positions = 0;
  config.block.attention.rope = RopeConfig{.theta = theta};
  config.block.feed_forward = {.hidden_dim = hidden_dim, .activation = activation, .gated = true};
  return config;
}

ModelConfig Mpnet() {
  ModelConfig config = BertBase();
  config.embedding->num_token_types = 0;
  config.block.attention.relative_bias = RelativeBiasConfig{};
  return config;
}

// 22 layers, every third one global, the others seeing 64 tokens on each side.
ModelConfig ModernBert() {
  ModelConfig config = RotaryBase(1152, Activation::kGeluErf, 160000.0);
  config.embedding->num_token_types = 0;
  config.num_layers = 22;
  config.block.norm_placement = NormPlacement::kPre;
  config.final_norm = true;
  BlockConfig local = config.block;
  local.attention.rope->theta = 10000.0;
  local.attention.window_left = local.attention.window_right = 64;
  BlockConfig first = config.block;
  first.attention_norm = false;
  config.other_blocks = {local, first};
  for (int32_t i = 0; i < config.num_layers; ++i) {
    config.layer_blocks.push_back(i == 0 ? 2 : i % 3 == 0 ? 0 : 1);
  }
  return config;
}

// One of ModernBERT's local or global layers, 22 times, without embeddings' cost to speak of.
ModelConfig ModernBertLayers(bool local) {
  ModelConfig config = ModernBert();
  config.block = local ? config.other_blocks[0] : config.block;
  config.other_blocks.clear();
  config.layer_blocks.clear();
  config.num_layers = 4;
  return config;
}

ModelConfig Jina() {
  ModelConfig config = BertBase();
  config.embedding->num_positions = 0;
  config.block.attention.alibi = true;
  config.block.feed_forward.gated = true;
  return config;
}

ModelConfig Electra() {
  ModelConfig config = BertBase();
  config.block.attention = {.embed_dim = 256, .num_heads = 4};
  config.block.feed_forward.hidden_dim = 1024;
  config.embedding->dim = 128;
  return config;
}

ModelConfig Albert() {
  ModelConfig config = BertBase();
  config.block.feed_forward.activation = Activation::kGeluTanh;
  config.embedding->dim = 128;
  config.layer_parameters.assign(config.num_layers, 0);
  return config;
}

ModelConfig Deberta() {
  ModelConfig config = BertBase();
  config.embedding->num_positions = 0;
  config.embedding->num_token_types = 0;
  config.block.attention.disentangled =
      DisentangledConfig{.num_buckets = 256, .max_distance = 512, .norm_eps = 1e-7};
  config.block.attention.scale = 1.0 / std::sqrt(3.0 * 64);
  return config;
}

// Decoders: grouped queries, RMS norms, gated networks.
ModelConfig Decoder(int64_t embed_dim, int64_t num_heads, int64_t num_kv_heads, int64_t head_dim,
                    int64_t hidden_dim, int64_t num_layers, Activation activation) {
  ModelConfig config;
  config.embedding = EmbeddingConfig{.vocab_size = kVocabSize};
  config.block.attention = {.embed_dim = embed_dim,
                            .num_heads = num_heads,
                            .num_kv_heads = num_kv_heads,
                            .head_dim = head_dim,
                            .rope = RopeConfig{.theta = 1e6}};
  config.block.norm_placement = NormPlacement::kPre;
  config.block.norm_kind = NormKind::kRmsNorm;
  config.block.feed_forward = {.hidden_dim = hidden_dim, .activation = activation, .gated = true};
  config.num_layers = num_layers;
  config.final_norm = config.causal = true;
  return config;
}

ModelConfig Qwen3() {
  ModelConfig config = Decoder(1024, 16, 8, 128, 3072, 28, Activation::kSilu);
  config.block.attention.qk_norm = QkNorm::kEachHead;
  return config;
}

ModelConfig EmbeddingGemma() {
  ModelConfig config = Decoder(768, 3, 1, 256, 1152, 24, Activation::kGeluTanh);
  config.causal = false;
  config.embedding->scale = std::sqrt(768.0);
  config.block.norm_placement = NormPlacement::kSandwich;
  config.block.attention.qk_norm = QkNorm::kEachHead;
  BlockConfig local = config.block;
  local.attention.rope->theta = 1e4;
  local.attention.window_left = local.attention.window_right = 256;
  config.other_blocks = {local};
  for (int32_t i = 0; i < config.num_layers; ++i) config.layer_blocks.push_back(i % 6 == 5 ? 0 : 1);
  return config;
}

ModelConfig Olmo2() {
  ModelConfig config = Decoder(2048, 16, 16, 128, 8192, 4, Activation::kSilu);
  config.block.norm_placement = NormPlacement::kBranch;
  config.block.attention.qk_norm = QkNorm::kAllHeads;
  return config;
}

ModelConfig Pythia() {
  ModelConfig config = BertBase();
  config.embedding = EmbeddingConfig{.vocab_size = kVocabSize};
  config.block.attention.rope = RopeConfig{.rotary_dim = 16};
  config.block.norm_placement = NormPlacement::kParallel;
  config.final_norm = config.causal = true;
  return config;
}

}  // namespace

const std::map<std::string, ModelConfig>& Families() {
  static const auto& families = *new std::map<std::string, ModelConfig>{
      {"minilm-l6", EncoderConfig()},
      {"bert-base", BertBase().Resolved()},
      {"mpnet-base", Mpnet().Resolved()},
      {"modernbert-base", ModernBert().Resolved()},
      {"modernbert-local", ModernBertLayers(true).Resolved()},
      {"modernbert-global", ModernBertLayers(false).Resolved()},
      {"nomic-bert", RotaryBase(3072, Activation::kSilu, 1000.0).Resolved()},
      {"gte-base", RotaryBase(3072, Activation::kGeluErf, 500000.0).Resolved()},
      {"jina-v2-base", Jina().Resolved()},
      {"electra-small", Electra().Resolved()},
      {"albert-base", Albert().Resolved()},
      {"deberta-v3-base", Deberta().Resolved()},
      {"qwen3-0.6b", Qwen3().Resolved()},
      {"embeddinggemma", EmbeddingGemma().Resolved()},
      {"olmo2-4-layers", Olmo2().Resolved()},
      {"pythia-160m", Pythia().Resolved()}};
  return families;
}

}  // namespace headlight::bench
