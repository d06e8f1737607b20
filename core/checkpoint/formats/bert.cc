// SPDX-License-Identifier: Apache-2.0
//
// BERT (Devlin et al. 2018, arXiv:1810.04805), RoBERTa and DistilBERT as transformers saves them: post-norm
// encoders with learned positions.
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/bert_like.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

constexpr BertLayerNames kDistilBert = {.query = "attention.q_lin",
                                        .key = "attention.k_lin",
                                        .value = "attention.v_lin",
                                        .attention_output = "attention.out_lin",
                                        .attention_norm = "sa_layer_norm",
                                        .up = "ffn.lin1",
                                        .down = "ffn.lin2",
                                        .feed_forward_norm = "output_layer_norm"};

// Where a checkpoint's tensors are.
struct Places {
  std::string layers;
  BertLayerNames names;
  std::string prefix;
  TokenTable table;
};

TensorPlan Plan(const Places& places, const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(places.prefix, plan);
  WantBertEmbedding(places.prefix, places.table, config, weights.embedding, plan);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(places.prefix, places.layers, i, ".");
    WantBertAttention(layer, places.names, config, weights.layers[i], plan);
    WantBertFeedForward(layer, places.names, config, weights.layers[i], plan);
  }
  return plan;
}

Places PlacesIn(const Shards& checkpoint, ConfigFields& fields, const char* layers,
                const BertLayerNames& names, const char* family, const char* head) {
  const std::string prefix = FindPrefix(checkpoint, kBertTokenTable, {"", family});
  return {layers, names, prefix, ReadTokenTable(fields, prefix + kBertTokenTable, head, /*tied=*/true)};
}

// What BERT and RoBERTa share. Defaults are those of the families' classes, which agree but for vocab_size.
Format ReadBertLike(ConfigFields& fields, const Places& places, int64_t vocab_size) {
  Format format;
  format.config = ReadBertSizes(fields, {.vocab_size = vocab_size});
  ReadBertDecoder(fields, format.config);
  ReadBertTables(fields, /*num_token_types=*/2, *format.config.embedding);
  // Relative positions were served by transformers 4 and are ignored by 5.
  fields.Only("position_embedding_type", {"\"absolute\""});
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
  if (IsJinaBert(fields)) return ReadJinaBert(fields, checkpoint);
  const Places places =
      PlacesIn(checkpoint, fields, "encoder.layer.", {}, "bert.", "cls.predictions.decoder.weight");
  Format format = ReadBertLike(fields, places, 30522);
  AddClassifiers({HeadDense(places.prefix + "pooler.dense", RowActivation::kTanh)}, fields, checkpoint,
                 format);
  AddMaskedLm(kBertLm, ToRowActivation(format.config.block.feed_forward.activation), places.table.tied,
              fields, checkpoint, format);
  // ColBERT (Khattab and Zaharia 2020, arXiv:2004.12832).
  AddHead({.kind = HeadKind::kTokenVectors, .task = "HF_ColBERT", .steps = {HeadDense("linear")}}, fields,
          checkpoint, format);
  return format;
}

Format ReadRoberta(ConfigFields& fields, const Shards& checkpoint) {
  const Places places =
      PlacesIn(checkpoint, fields, "encoder.layer.", {}, "roberta.", "lm_head.decoder.weight");
  Format format = ReadBertLike(fields, places, 50265);
  // Positions are counted over what is no padding, from the row after padding's own.
  if (fields.IsNull("pad_token_id")) {
    fields.Fail(ConfigFields::Problem::kInvalid, "pad_token_id",
                "got null, wanted an id: positions are counted from it");
  }
  const int64_t padding_id = fields.Int("pad_token_id", 0, kMaxDimension, 1);
  format.config.embedding->padding_id = padding_id;
  format.config.embedding->position_offset = padding_id + 1;
  AddDenseClassifiers(RowActivation::kTanh, fields, checkpoint, format);
  AddMaskedLm(kRobertaLm, RowActivation::kGeluErf, places.table.tied, fields, checkpoint, format);
  // Ids of the family's tokenizers where the config does not say.
  int32_t next = 0;
  for (const char* key : {"bos_token_id", "pad_token_id", "eos_token_id"}) {
    int32_t id = next++;
    if (fields.Has(key) && !absl::SimpleAtoi(fields.Text(key), &id)) continue;
    format.special_ids.push_back(id);
  }
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
  const Places places = PlacesIn(checkpoint, fields, "transformer.layer.", kDistilBert, "distilbert.",
                                 "vocab_projector.weight");
  format.plan = [places](const ModelConfig& resolved, ModelParameters& weights) {
    return Plan(places, resolved, weights);
  };
  AddClassifiers({HeadDense("pre_classifier", RowActivation::kRelu)}, fields, checkpoint, format);
  AddHead({.kind = HeadKind::kLanguageModel,
           .steps = {HeadDense("vocab_transform", ToRowActivation(block.feed_forward.activation)),
                     HeadNorm("vocab_layer_norm", 1e-12)},
           .vocab = "vocab_projector",
           .vocab_bias = {"vocab_projector.bias"},
           .tied = places.table.tied},
          fields, checkpoint, format);
  return format;
}

}  // namespace headlight
