// SPDX-License-Identifier: Apache-2.0
//
// DeBERTa-v2 and v3 (He et al. 2020, arXiv:2006.03654, and 2021, arXiv:2111.09543) as transformers saves them:
// BERT whose scores depend on distances besides, through a table that all layers project with their own
// queries' and keys' matrices.
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
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

constexpr BertLayerNames kDebertaLayer = {.query = "attention.self.query_proj",
                                          .key = "attention.self.key_proj",
                                          .value = "attention.self.value_proj"};

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

TensorPlan PlanDeberta(const std::string& prefix, const TokenTable& table, const ModelConfig& config,
                       ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(prefix, plan);
  WantBertEmbedding(prefix, table, config, weights.embedding, plan);
  // Tables that are saved although the class does not use them.
  if (config.embedding->num_positions == 0) {
    plan.ignored_prefixes.push_back(prefix + "embeddings.position_embeddings.");
  }
  const std::string encoder = prefix + "encoder.";
  if (!config.block.attention.disentangled) {
    plan.ignored_prefixes.push_back(encoder + "rel_embeddings.");
    plan.ignored_prefixes.push_back(encoder + "LayerNorm.");
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(encoder, "layer.", i, ".");
    BlockParameters& block = weights.layers[i];
    WantBertAttention(layer, kDebertaLayer, config, block, plan);
    WantBertFeedForward(layer, kDebertaLayer, config, block, plan);
    if (config.block.attention.disentangled) {
      WantDistances(encoder, config.block.attention, block.attention, plan);
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

void ReadDisentangled(ConfigFields& fields, BlockConfig& block) {
  AttentionConfig& attention = block.attention;
  const std::vector<std::string> types = ReadBarred(fields, "pos_att_type");
  for (const std::string& type : types) {
    if (type == "c2p" || type == "p2c") continue;
    fields.Fail(Problem::kUnimplemented, "pos_att_type",
                absl::StrCat("got ", Quoted(type), ", served are c2p and p2c"));
  }
  DisentangledConfig config = {.query_to_position = Contains(types, "c2p"),
                               .key_to_position = Contains(types, "p2c")};
  const int terms = 1 + int{config.query_to_position} + int{config.key_to_position};
  // Even where the terms are not there.
  attention.scale = 1.0 / std::sqrt(static_cast<double>(attention.embed_dim / attention.num_heads) * terms);
  if (ReadDistanceNorm(fields)) config.norm_eps = block.norm_eps;
  const int64_t buckets = fields.Int("position_buckets", INT64_MIN, kMaxDimension, -1);
  int64_t furthest = fields.Int("max_relative_positions", INT64_MIN, kMaxDimension, -1);
  if (furthest < 1) furthest = fields.Int("max_position_embeddings", 1, kMaxDimension, 512);
  config.num_buckets = buckets > 0 ? buckets : furthest;
  config.max_distance = buckets > 0 ? furthest : 0;
  const bool shared = fields.Bool("share_att_key", false);
  if (!fields.Bool("relative_attention", false) || terms == 1) return;
  if (!shared) {
    fields.Fail(Problem::kUnimplemented, "share_att_key",
                "got false, or it is not there; served is true: distances projected as tokens are");
  }
  attention.disentangled = config;
}

}  // namespace

Format ReadDebertaV2(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  config = ReadBertSizes(fields, {.vocab_size = 128100,
                                  .hidden_size = 1536,
                                  .num_layers = 24,
                                  .num_heads = 24,
                                  .intermediate_size = 6144,
                                  .norm_eps = 1e-7});
  const int64_t width = config.block.attention.embed_dim;
  ReadBertTables(fields, /*num_token_types=*/0, *config.embedding);
  if (!fields.Bool("position_biased_input", true)) config.embedding->num_positions = 0;
  ReadDisentangled(fields, config.block);
  // A projection before the norm of embeddings, heads of another width, and a convolution after the first layer.
  fields.Only("embedding_size", {absl::StrCat(width).c_str()});
  fields.Only("attention_head_size", {absl::StrCat(width / config.block.attention.num_heads).c_str()});
  if (fields.Int("conv_kernel_size", INT64_MIN, kMaxDimension, 0) > 0) {
    fields.Fail(Problem::kUnimplemented, "conv_kernel_size", "got a convolution; served is 0");
  }
  // The family has no decoder; the others are of that convolution and of task heads.
  fields.WithoutEffect({"is_decoder", "is_causal", "conv_act", "conv_groups", "legacy", "pooler_dropout",
                        "pooler_hidden_act", "pooler_hidden_size", "cls_dropout"});
  const std::string prefix = FindPrefix(checkpoint, kBertTokenTable, {"", "deberta."});
  const TokenTable table =
      ReadTokenTable(fields, prefix + kBertTokenTable, "cls.predictions.decoder.weight", /*tied=*/true);
  format.plan = [prefix, table](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanDeberta(prefix, table, resolved, weights);
  };
  return format;
}

}  // namespace headlight
