// SPDX-License-Identifier: Apache-2.0
//
// What the descendants of BERT have in common: post-norm layers whose config.json and tensors are called much
// the same.
#ifndef HEADLIGHT_CORE_CHECKPOINT_FORMATS_BERT_LIKE_H_
#define HEADLIGHT_CORE_CHECKPOINT_FORMATS_BERT_LIKE_H_

#include <cstdint>
#include <string>

#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/huggingface.h"
#include "core/checkpoint/tensor_plan.h"
#include "core/model/config.h"
#include "core/model/parameters.h"

namespace headlight {

// The names of a layer's modules.
struct BertLayerNames {
  const char* query = "attention.self.query";
  const char* key = "attention.self.key";
  const char* value = "attention.self.value";
  const char* attention_output = "attention.output.dense";
  const char* attention_norm = "attention.output.LayerNorm";
  const char* up = "intermediate.dense";
  const char* down = "output.dense";
  const char* feed_forward_norm = "output.LayerNorm";
};

inline constexpr char kBertTokenTable[] = "embeddings.word_embeddings.weight";

// The tables and norm in "<prefix>embeddings.", as wide as EmbeddingConfig::dim. `config` is resolved.
void WantBertEmbedding(const std::string& prefix, const TokenTable& table, const ModelConfig& config,
                       EmbeddingParameters& weights, TensorPlan& plan);

// Attention with biases and its norm; the feed-forward network with biases and its norm. `layer` is what
// stands before the names.
void WantBertAttention(const std::string& layer, const BertLayerNames& names, const ModelConfig& config,
                       BlockParameters& block, TensorPlan& plan);
// Of attention what comes behind queries, keys and values.
void WantBertAttentionOutput(const std::string& layer, const BertLayerNames& names, const ModelConfig& config,
                             BlockParameters& block, TensorPlan& plan);
void WantBertFeedForward(const std::string& layer, const BertLayerNames& names, const ModelConfig& config,
                         BlockParameters& block, TensorPlan& plan);

// A whole layer as the classes of encoders with rotary positions and gated networks call it,
// "self_attn.q_proj", "mlp.gate_proj" and so on.
void WantRotaryGatedLayer(const std::string& layer, bool attention_bias, bool down_bias,
                          const ModelConfig& config, BlockParameters& block, TensorPlan& plan);

// What a family's class says of keys that are absent.
struct BertDefaults {
  int64_t vocab_size = 30522;
  int64_t hidden_size = 768;
  int64_t num_layers = 12;
  int64_t num_heads = 12;
  int64_t intermediate_size = 3072;
  double norm_eps = 1e-12;
  const char* activation = "gelu";
};

// Sizes, eps and activation of a post-norm stack, and an embedding with a norm but without positions and
// token types.
ModelConfig ReadBertSizes(ConfigFields& fields, const BertDefaults& defaults);

// "max_position_embeddings" and "type_vocab_size", of learned tables.
void ReadBertTables(ConfigFields& fields, int64_t num_token_types, EmbeddingConfig& embedding);

// "is_decoder", which makes BERT causal.
void ReadBertDecoder(ConfigFields& fields, ModelConfig& config);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_CHECKPOINT_FORMATS_BERT_LIKE_H_
