// SPDX-License-Identifier: Apache-2.0
//
// BERT (Devlin et al. 2018, arXiv:1810.04805), RoBERTa and DistilBERT as transformers saves them: post-norm
// encoders with learned positions.
#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

// The names of a family's tensors, under the encoder's prefix and that of a layer.
struct BertNames {
  const char* layers;
  const char* query;
  const char* key;
  const char* value;
  const char* attention_output;
  const char* attention_norm;
  const char* up;
  const char* down;
  const char* feed_forward_norm;
};

constexpr BertNames kBert = {.layers = "encoder.layer.",
                             .query = "attention.self.query",
                             .key = "attention.self.key",
                             .value = "attention.self.value",
                             .attention_output = "attention.output.dense",
                             .attention_norm = "attention.output.LayerNorm",
                             .up = "intermediate.dense",
                             .down = "output.dense",
                             .feed_forward_norm = "output.LayerNorm"};

constexpr BertNames kDistilBert = {.layers = "transformer.layer.",
                                   .query = "attention.q_lin",
                                   .key = "attention.k_lin",
                                   .value = "attention.v_lin",
                                   .attention_output = "attention.out_lin",
                                   .attention_norm = "sa_layer_norm",
                                   .up = "ffn.lin1",
                                   .down = "ffn.lin2",
                                   .feed_forward_norm = "output_layer_norm"};

// Where a checkpoint's tensors are.
struct Places {
  BertNames names;
  std::string prefix;
  TokenTable table;
};

void WantEmbedding(const Places& places, const ModelConfig& config, EmbeddingParameters& weights,
                   TensorPlan& plan) {
  const EmbeddingConfig& sizes = *config.embedding;
  const int64_t width = config.block.attention.embed_dim;
  const std::string name = places.prefix + "embeddings.";
  WantTokenTable(places.table, {sizes.vocab_size, width}, weights.tokens, plan);
  WantAsIs(name + "position_embeddings.weight", {sizes.num_positions, width}, weights.positions, plan);
  // A table without rows is saved too, by some versions, and is no table.
  plan.wanted.push_back({.names = {name + "token_type_embeddings.weight"},
                         .shape = {sizes.num_token_types, width},
                         .parts = {{&weights.token_types}},
                         .optional = sizes.num_token_types == 0});
  WantNorm(name + "LayerNorm", width, /*bias=*/true, weights.norm, plan);
}

TensorPlan Plan(const Places& places, const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  const BertNames& names = places.names;
  IgnoreHeadsAndBuffers(places.prefix, plan);
  WantEmbedding(places, config, weights.embedding, plan);
  const int64_t width = config.block.attention.embed_dim;
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(places.prefix, names.layers, i, ".");
    BlockParameters& block = weights.layers[i];
    AttentionParameters& attention = block.attention;
    FeedForwardParameters& feed_forward = block.feed_forward;
    WantLinear(layer + names.query, width, width, true, attention.wq, attention.bq, plan);
    WantLinear(layer + names.key, width, width, true, attention.wk, attention.bk, plan);
    WantLinear(layer + names.value, width, width, true, attention.wv, attention.bv, plan);
    WantLinear(layer + names.attention_output, width, width, true, attention.wo, attention.bo, plan);
    WantNorm(layer + names.attention_norm, width, true, block.attention_norm, plan);
    WantLinear(layer + names.up, width, hidden, true, feed_forward.up, feed_forward.up_bias, plan);
    WantLinear(layer + names.down, hidden, width, true, feed_forward.down, feed_forward.down_bias, plan);
    WantNorm(layer + names.feed_forward_norm, width, true, block.feed_forward_norm, plan);
  }
  return plan;
}

constexpr char kTokenTable[] = "embeddings.word_embeddings.weight";

Places PlacesIn(const Shards& checkpoint, ConfigFields& fields, const BertNames& names, const char* family,
                const char* head) {
  const std::string prefix = FindPrefix(checkpoint, kTokenTable, {"", family});
  return {names, prefix, ReadTokenTable(fields, prefix + kTokenTable, head, /*tied=*/true)};
}

// What BERT and RoBERTa share. Defaults are those of the families' classes, which agree but for vocab_size.
Format ReadBertLike(ConfigFields& fields, const Places& places, int64_t vocab_size) {
  Format format;
  ModelConfig& config = format.config;
  BlockConfig& block = config.block;
  block.attention.embed_dim = fields.Int("hidden_size", 1, kMaxDimension, 768);
  block.attention.num_heads = fields.Int("num_attention_heads", 1, kMaxDimension, 12);
  config.num_layers = fields.Int("num_hidden_layers", 1, kMaxLayers, 12);
  block.norm_placement = NormPlacement::kPost;
  block.norm_eps = fields.Number("layer_norm_eps", 1e-12);
  block.feed_forward.hidden_dim = fields.Int("intermediate_size", 1, kMaxDimension, 3072);
  block.feed_forward.activation = ReadHuggingFaceActivation(fields, "hidden_act", "gelu");
  config.causal = fields.Bool("is_decoder", false);
  if (config.causal) {
    RefuseNonCausal(fields);
  } else {
    fields.WithoutEffect({"is_causal"});  // only a decoder's mask asks
  }
  config.embedding = {.vocab_size = fields.Int("vocab_size", 1, kMaxDimension, vocab_size),
                      .num_positions = fields.Int("max_position_embeddings", 1, kMaxDimension, 512),
                      .num_token_types = fields.Int("type_vocab_size", 0, kMaxDimension, 2),
                      .norm = true};
  // Relative positions were served by transformers 4 and are ignored by 5.
  fields.Only("position_embedding_type", {"\"absolute\""});
  fields.WithoutEffect({"hidden_dropout_prob", "attention_probs_dropout_prob"});
  // The pooler's own, in the first configs.
  fields.WithoutEffect({"directionality", "pooler_fc_size", "pooler_num_attention_heads",
                        "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"});
  format.plan = [places](const ModelConfig& resolved, ModelParameters& weights) {
    return Plan(places, resolved, weights);
  };
  return format;
}

}  // namespace

Format ReadBert(ConfigFields& fields, const Shards& checkpoint) {
  return ReadBertLike(fields, PlacesIn(checkpoint, fields, kBert, "bert.", "cls.predictions.decoder.weight"),
                      30522);
}

Format ReadRoberta(ConfigFields& fields, const Shards& checkpoint) {
  Format format =
      ReadBertLike(fields, PlacesIn(checkpoint, fields, kBert, "roberta.", "lm_head.decoder.weight"), 50265);
  // Positions are counted over what is no padding, from the row after padding's own.
  if (fields.IsNull("pad_token_id")) {
    fields.Fail(ConfigFields::Problem::kInvalid, "pad_token_id",
                "got null, wanted an id: positions are counted from it");
  }
  const int64_t padding_id = fields.Int("pad_token_id", 0, kMaxDimension, 1);
  format.config.embedding->padding_id = padding_id;
  format.config.embedding->position_offset = padding_id + 1;
  return format;
}

Format ReadDistilBert(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  BlockConfig& block = config.block;
  block.attention.embed_dim = fields.Int(fields.EitherOf("dim", "hidden_size"), 1, kMaxDimension, 768);
  block.attention.num_heads =
      fields.Int(fields.EitherOf("n_heads", "num_attention_heads"), 1, kMaxDimension, 12);
  config.num_layers = fields.Int(fields.EitherOf("n_layers", "num_hidden_layers"), 1, kMaxLayers, 6);
  block.norm_placement = NormPlacement::kPost;
  block.norm_eps = 1e-12;  // the family has no key for it
  block.feed_forward.hidden_dim = fields.Int("hidden_dim", 1, kMaxDimension, 3072);
  block.feed_forward.activation = ReadHuggingFaceActivation(fields, "activation", "gelu");
  config.embedding = {.vocab_size = fields.Int("vocab_size", 1, kMaxDimension, 30522),
                      .num_positions = fields.Int("max_position_embeddings", 1, kMaxDimension, 512),
                      .norm = true};
  // A table of sines is stored like any other; the family has no decoder.
  fields.WithoutEffect({"sinusoidal_pos_embds", "is_decoder", "is_causal", "dropout", "attention_dropout",
                        "qa_dropout", "seq_classif_dropout", "output_past", "tie_weights_"});
  const Places places = PlacesIn(checkpoint, fields, kDistilBert, "distilbert.", "vocab_projector.weight");
  format.plan = [places](const ModelConfig& resolved, ModelParameters& weights) {
    return Plan(places, resolved, weights);
  };
  return format;
}

}  // namespace headlight
