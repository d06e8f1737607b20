// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/bert_like.h"

namespace headlight {

void WantBertEmbedding(const std::string& prefix, const TokenTable& table, const ModelConfig& config,
                       EmbeddingParameters& weights, TensorPlan& plan) {
  const EmbeddingConfig& sizes = *config.embedding;
  const std::string name = prefix + "embeddings.";
  WantTokenTable(table, {sizes.vocab_size, sizes.dim}, weights.tokens, plan);
  if (sizes.num_positions > 0) {
    WantAsIs(name + "position_embeddings.weight", {sizes.num_positions, sizes.dim}, weights.positions, plan);
  }
  // A table without rows is saved too, by some versions, and is no table.
  plan.wanted.push_back({.names = {name + "token_type_embeddings.weight"},
                         .shape = {sizes.num_token_types, sizes.dim},
                         .parts = {{&weights.token_types}},
                         .optional = sizes.num_token_types == 0});
  WantNorm(name + "LayerNorm", sizes.dim, /*bias=*/true, weights.norm, plan);
}

void WantBertAttention(const std::string& layer, const BertLayerNames& names, const ModelConfig& config,
                       BlockParameters& block, TensorPlan& plan) {
  const int64_t width = config.block.attention.embed_dim;
  AttentionParameters& attention = block.attention;
  WantLinear(layer + names.query, width, width, true, attention.wq, attention.bq, plan);
  WantLinear(layer + names.key, width, width, true, attention.wk, attention.bk, plan);
  WantLinear(layer + names.value, width, width, true, attention.wv, attention.bv, plan);
  WantBertAttentionOutput(layer, names, config, block, plan);
}

void WantBertAttentionOutput(const std::string& layer, const BertLayerNames& names, const ModelConfig& config,
                             BlockParameters& block, TensorPlan& plan) {
  const int64_t width = config.block.attention.embed_dim;
  WantLinear(layer + names.attention_output, width, width, true, block.attention.wo, block.attention.bo,
             plan);
  WantNorm(layer + names.attention_norm, width, true, block.attention_norm, plan);
}

void WantBertFeedForward(const std::string& layer, const BertLayerNames& names, const ModelConfig& config,
                         BlockParameters& block, TensorPlan& plan) {
  const int64_t width = config.block.attention.embed_dim;
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  FeedForwardParameters& network = block.feed_forward;
  WantLinear(layer + names.up, width, hidden, true, network.up, network.up_bias, plan);
  WantLinear(layer + names.down, hidden, width, true, network.down, network.down_bias, plan);
  WantNorm(layer + names.feed_forward_norm, width, true, block.feed_forward_norm, plan);
}

void WantRotaryGatedLayer(const std::string& layer, bool attention_bias, bool down_bias,
                          const ModelConfig& config, BlockParameters& block, TensorPlan& plan) {
  const int64_t width = config.block.attention.embed_dim;
  const int64_t heads = config.block.attention.q_width();
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  AttentionParameters& attention = block.attention;
  FeedForwardParameters& mlp = block.feed_forward;
  WantLinear(layer + "self_attn.q_proj", width, heads, attention_bias, attention.wq, attention.bq, plan);
  WantLinear(layer + "self_attn.k_proj", width, heads, attention_bias, attention.wk, attention.bk, plan);
  WantLinear(layer + "self_attn.v_proj", width, heads, attention_bias, attention.wv, attention.bv, plan);
  WantLinear(layer + "self_attn.o_proj", heads, width, attention_bias, attention.wo, attention.bo, plan);
  WantNorm(layer + "post_attention_layernorm", width, true, block.attention_norm, plan);
  WantLinear(layer + "mlp.gate_proj", width, hidden, false, mlp.gate, mlp.gate_bias, plan);
  WantLinear(layer + "mlp.up_proj", width, hidden, false, mlp.up, mlp.up_bias, plan);
  WantLinear(layer + "mlp.down_proj", hidden, width, down_bias, mlp.down, mlp.down_bias, plan);
  WantNorm(layer + "post_mlp_layernorm", width, true, block.feed_forward_norm, plan);
}

ModelConfig ReadBertSizes(ConfigFields& fields, const BertDefaults& defaults) {
  ModelConfig config;
  BlockConfig& block = config.block;
  block.attention.embed_dim = fields.Int("hidden_size", 1, kMaxDimension, defaults.hidden_size);
  block.attention.num_heads = fields.Int("num_attention_heads", 1, kMaxDimension, defaults.num_heads);
  config.num_layers = fields.Int("num_hidden_layers", 1, kMaxLayers, defaults.num_layers);
  block.norm_placement = NormPlacement::kPost;
  block.norm_eps = fields.Number("layer_norm_eps", defaults.norm_eps);
  block.feed_forward.hidden_dim =
      fields.Int("intermediate_size", 1, kMaxDimension, defaults.intermediate_size);
  block.feed_forward.activation = ReadHuggingFaceActivation(fields, "hidden_act", defaults.activation);
  config.embedding = {.vocab_size = fields.Int("vocab_size", 1, kMaxDimension, defaults.vocab_size),
                      .norm = true};
  fields.WithoutEffect({"hidden_dropout_prob", "attention_probs_dropout_prob"});
  return config;
}

void ReadBertTables(ConfigFields& fields, int64_t num_token_types, EmbeddingConfig& embedding) {
  embedding.num_positions = fields.Int("max_position_embeddings", 1, kMaxDimension, 512);
  embedding.num_token_types = fields.Int("type_vocab_size", 0, kMaxDimension, num_token_types);
}

void ReadBertDecoder(ConfigFields& fields, ModelConfig& config) {
  config.causal = fields.Bool("is_decoder", false);
  if (config.causal) {
    RefuseNonCausal(fields);
  } else {
    fields.WithoutEffect({"is_causal"});  // only a decoder's mask asks
  }
}

}  // namespace headlight
