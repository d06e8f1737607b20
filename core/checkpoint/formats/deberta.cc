// SPDX-License-Identifier: Apache-2.0
//
// DeBERTa (He et al. 2020, arXiv:2006.03654), v2 and v3 (2021, arXiv:2111.09543) as transformers saves them:
// BERT whose scores depend on distances besides, through a table that each layer projects to keys and
// queries, by matrices of its own or by those of tokens.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/text.h"
#include "core/checkpoint/formats/bert_like.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

constexpr BertLayerNames kDebertaLayer = {.query = "attention.self.query_proj",
                                          .key = "attention.self.key_proj",
                                          .value = "attention.self.value_proj"};

// What the first version and the later ones call differently.
struct DebertaNames {
  bool fused = false;             // queries, keys and values of a head side by side, the keys without a bias
  const char* position_key = "";  // of distances
  bool position_key_bias = false;
  const char* position_query = "";
};

constexpr DebertaNames kDebertaV1 = {
    .fused = true, .position_key = "pos_proj", .position_query = "pos_q_proj"};
constexpr DebertaNames kDebertaV2 = {
    .position_key = "pos_key_proj", .position_key_bias = true, .position_query = "pos_query_proj"};

struct DebertaPlan {
  std::string prefix;
  TokenTable table;
  DebertaNames names;
};

void WantFusedHeads(const std::string& self, const AttentionConfig& config, AttentionParameters& weights,
                    TensorPlan& plan) {
  const int64_t width = config.embed_dim;
  const int64_t head_dim = config.head_dim;
  const int64_t period = 3 * head_dim;
  plan.wanted.push_back({.names = {self + "in_proj.weight"},
                         .shape = {3 * width, width},
                         .parts = {{&weights.wq, 0, head_dim, period},
                                   {&weights.wk, head_dim, head_dim, period},
                                   {&weights.wv, 2 * head_dim, head_dim, period}},
                         .orientation = Orientation::kOutIn});
  WantAsIs(self + "q_bias", {width}, weights.bq, plan);
  WantAsIs(self + "v_bias", {width}, weights.bv, plan);
}

// The projections of distances that are not those of tokens.
void WantDistanceProjections(const std::string& self, const DebertaNames& names,
                             const AttentionConfig& config, AttentionParameters& weights, TensorPlan& plan) {
  const int64_t width = config.embed_dim;
  if (config.disentangled->query_to_position) {
    WantLinear(self + names.position_key, width, width, names.position_key_bias, weights.distance_wk,
               weights.distance_bk, plan);
  }
  if (config.disentangled->key_to_position) {
    WantLinear(self + names.position_query, width, width, true, weights.distance_wq, weights.distance_bq,
               plan);
  }
}

// The table and its norm, which each layer has for its own.
void WantDistances(const std::string& encoder, const AttentionConfig& config, AttentionParameters& weights,
                   TensorPlan& plan) {
  WantAsIs(encoder + "rel_embeddings.weight", {2 * config.disentangled->num_buckets, config.embed_dim},
           weights.distances, plan);
  if (!config.disentangled->norm_eps) return;
  plan.wanted.push_back({.names = {encoder + "LayerNorm.weight", encoder + "LayerNorm.gamma"},
                         .shape = {config.embed_dim},
                         .parts = {{&weights.distance_gain}}});
  plan.wanted.push_back({.names = {encoder + "LayerNorm.bias", encoder + "LayerNorm.beta"},
                         .shape = {config.embed_dim},
                         .parts = {{&weights.distance_bias}}});
}

TensorPlan PlanDeberta(const DebertaPlan& options, const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  const std::string& prefix = options.prefix;
  const AttentionConfig& attention = config.block.attention;
  IgnoreHeadsAndBuffers(prefix, plan);
  WantBertEmbedding(prefix, options.table, config, weights.embedding, plan);
  // Tables that are saved although the class does not use them.
  if (config.embedding->num_positions == 0) {
    plan.ignored_prefixes.push_back(prefix + "embeddings.position_embeddings.");
  }
  const std::string encoder = prefix + "encoder.";
  if (!attention.disentangled) {
    plan.ignored_prefixes.push_back(encoder + "rel_embeddings.");
    plan.ignored_prefixes.push_back(encoder + "LayerNorm.");
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(encoder, "layer.", i, ".");
    const std::string self = layer + "attention.self.";
    BlockParameters& block = weights.layers[i];
    if (options.names.fused) {
      WantFusedHeads(self, attention, block.attention, plan);
      WantBertAttentionOutput(layer, kDebertaLayer, config, block, plan);
    } else {
      WantBertAttention(layer, kDebertaLayer, config, block, plan);
    }
    WantBertFeedForward(layer, kDebertaLayer, config, block, plan);
    if (!attention.disentangled) continue;
    WantDistances(encoder, attention, block.attention, plan);
    if (attention.disentangled->own_projections) {
      WantDistanceProjections(self, options.names, attention, block.attention, plan);
    }
  }
  return plan;
}

// The strings of a key that is an array, or one string with bars between.
std::vector<std::string> ReadBarred(ConfigFields& fields, const std::string& key) {
  std::vector<std::string> strings;
  for (const std::string& entry : fields.StringOrStrings(key)) {
    for (const absl::string_view part : absl::StrSplit(entry, '|')) {
      strings.emplace_back(absl::StripAsciiWhitespace(part));
    }
  }
  return strings;
}

bool Contains(const std::vector<std::string>& strings, const char* string) {
  return std::find(strings.begin(), strings.end(), string) != strings.end();
}

constexpr char kNewLm[] = "lm_predictions.lm_head";

// The pooler is none of the encoder's. Of language models there are two forms, and "legacy" says which one is
// meant.
void AddDebertaHeads(bool tied, ConfigFields& fields, const Shards& checkpoint, Format& format) {
  if (checkpoint.Find("pooler.dense.weight") == nullptr) fields.WithoutEffect({"pooler_hidden_act"});
  std::string refusal;
  HeadStep pooler = HeadDense("pooler.dense");
  if (checkpoint.Find("pooler.dense.weight") != nullptr) {
    pooler.activation = ReadHeadActivation(fields, "pooler_hidden_act", "gelu", refusal);
  }
  AddHead({.kind = HeadKind::kScores,
           .task = "ForSequenceClassification",
           .steps = {pooler, HeadDense("classifier")},
           .refusal = refusal},
          fields, checkpoint, format);
  AddHead(
      {.kind = HeadKind::kTokenScores, .task = "ForTokenClassification", .steps = {HeadDense("classifier")}},
      fields, checkpoint, format);
  const RowActivation activation = ToRowActivation(format.config.block.feed_forward.activation);
  const bool has_new = checkpoint.Find(absl::StrCat(kNewLm, ".dense.weight")) != nullptr;
  const bool has_legacy = checkpoint.Find("cls.predictions.transform.dense.weight") != nullptr;
  if (!has_new && !has_legacy) return fields.WithoutEffect({"legacy"});
  const bool legacy = fields.Bool("legacy", true);
  if (legacy ? has_legacy : has_new) {
    // The newer form has no table of its own.
    if (legacy) return AddMaskedLm(kBertLm, activation, tied, fields, checkpoint, format);
    return AddMaskedLm({.base = kNewLm, .transform = kNewLm}, activation, /*tied=*/true, fields, checkpoint,
                       format);
  }
  RefuseHead(
      HeadKind::kLanguageModel,
      legacy ? absl::StrCat("config.json: legacy: got true, wanted false for ", kNewLm,
                            " to be it: in pretraining it followed other layers than those of the encoder")
             : "config.json: legacy: got false, wanted true for cls.predictions to be it",
      format);
}

// "norm_rel_ebd": whether the table has a norm.
bool ReadDistanceNorm(ConfigFields& fields) {
  const std::vector<std::string> norms = ReadBarred(fields, "norm_rel_ebd");
  for (const std::string& norm : norms) {
    if (norm == "none" || norm == "layer_norm") continue;
    fields.Fail(Problem::kUnimplemented, "norm_rel_ebd",
                absl::StrCat("got ", Quoted(norm), ", served are none and layer_norm"));
  }
  return Contains(norms, "layer_norm");
}

// The terms, and the scale, which counts them even where relative attention is off. Returns whether they are
// there.
bool ReadTerms(ConfigFields& fields, AttentionConfig& attention, DisentangledConfig& config) {
  const std::vector<std::string> types = ReadBarred(fields, "pos_att_type");
  for (const std::string& type : types) {
    if (type == "c2p" || type == "p2c") continue;
    fields.Fail(Problem::kUnimplemented, "pos_att_type",
                absl::StrCat("got ", Quoted(type), ", served are c2p and p2c"));
  }
  if (types.size() > 2 || (types.size() == 2 && types[0] == types[1])) {
    fields.Fail(Problem::kUnimplemented, "pos_att_type", "got one of them twice, served is once");
  }
  config.query_to_position = Contains(types, "c2p");
  config.key_to_position = Contains(types, "p2c");
  const int terms = 1 + int{config.query_to_position} + int{config.key_to_position};
  attention.scale = 1.0 / std::sqrt(static_cast<double>(attention.embed_dim / attention.num_heads) * terms);
  return fields.Bool("relative_attention", false) && terms > 1;
}

// How far distances go that have rows of their own.
int64_t ReadFurthest(ConfigFields& fields) {
  const int64_t furthest = fields.Int("max_relative_positions", INT64_MIN, kMaxDimension, -1);
  return furthest >= 1 ? furthest : fields.Int("max_position_embeddings", 1, kMaxDimension, 512);
}

// What the versions share.
Format ReadDebertaLike(ConfigFields& fields, const Shards& checkpoint, const BertDefaults& defaults,
                       const DebertaNames& names) {
  Format format;
  ModelConfig& config = format.config;
  config = ReadBertSizes(fields, defaults);
  ReadBertTables(fields, /*num_token_types=*/0, *config.embedding);
  if (!fields.Bool("position_biased_input", true)) config.embedding->num_positions = 0;
  // A projection before the norm of embeddings.
  fields.Only("embedding_size", {absl::StrCat(config.block.attention.embed_dim).c_str()});
  // The family has no decoder; the others are of training, said by the checkpoint's shapes, and an older name
  // that the class never reads.
  fields.WithoutEffect(
      {"is_decoder", "is_causal", "pooler_dropout", "pooler_hidden_size", "cls_dropout", "padding_idx"});
  DebertaPlan options = {.names = names};
  options.prefix = FindPrefix(checkpoint, kBertTokenTable, {"", "deberta."});
  options.table = ReadTokenTable(fields, options.prefix + kBertTokenTable, "cls.predictions.decoder.weight",
                                 /*tied=*/true);
  format.plan = [options](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanDeberta(options, resolved, weights);
  };
  AddDebertaHeads(options.table.tied, fields, checkpoint, format);
  return format;
}

}  // namespace

Format ReadDeberta(ConfigFields& fields, const Shards& checkpoint) {
  Format format = ReadDebertaLike(fields, checkpoint, {.vocab_size = 50265, .norm_eps = 1e-7}, kDebertaV1);
  AttentionConfig& attention = format.config.block.attention;
  DisentangledConfig config = {.own_projections = true};
  const bool disentangled = ReadTerms(fields, attention, config);
  config.num_buckets = ReadFurthest(fields);
  if (disentangled) attention.disentangled = config;
  // Products of heads with one another.
  fields.Only("talking_head", {"false"});
  return format;
}

Format ReadDebertaV2(ConfigFields& fields, const Shards& checkpoint) {
  Format format = ReadDebertaLike(fields, checkpoint,
                                  {.vocab_size = 128100,
                                   .hidden_size = 1536,
                                   .num_layers = 24,
                                   .num_heads = 24,
                                   .intermediate_size = 6144,
                                   .norm_eps = 1e-7},
                                  kDebertaV2);
  AttentionConfig& attention = format.config.block.attention;
  DisentangledConfig config;
  const bool disentangled = ReadTerms(fields, attention, config);
  const int64_t buckets = fields.Int("position_buckets", INT64_MIN, kMaxDimension, -1);
  const int64_t furthest = ReadFurthest(fields);
  config.num_buckets = buckets > 0 ? buckets : furthest;
  config.max_distance = buckets > 0 ? furthest : 0;
  config.own_projections = !fields.Bool("share_att_key", false);
  if (ReadDistanceNorm(fields)) config.norm_eps = format.config.block.norm_eps;
  if (disentangled) attention.disentangled = config;
  // Heads of another width, and a convolution after the first layer.
  fields.Only("attention_head_size", {absl::StrCat(attention.embed_dim / attention.num_heads).c_str()});
  if (fields.Int("conv_kernel_size", INT64_MIN, kMaxDimension, 0) > 0) {
    fields.Fail(Problem::kUnimplemented, "conv_kernel_size", "got a convolution; served is 0");
  }
  fields.WithoutEffect({"conv_act", "conv_groups"});
  return format;
}

}  // namespace headlight
