// SPDX-License-Identifier: Apache-2.0
//
// ALBERT (Lan et al. 2019, arXiv:1909.11942) as transformers saves it: BERT with narrow embeddings, whose
// layers share their parameters in groups.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/bert_like.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

constexpr BertLayerNames kAlbertLayer = {.query = "attention.query",
                                         .key = "attention.key",
                                         .value = "attention.value",
                                         .attention_output = "attention.dense",
                                         .attention_norm = "attention.LayerNorm",
                                         .up = "ffn",
                                         .down = "ffn_output",
                                         .feed_forward_norm = "full_layer_layer_norm"};

// Where each layer's parameters are in the checkpoint: the number of its group and of the layer within.
struct AlbertPlace {
  int64_t group = 0;
  int64_t inner = 0;

  bool operator==(const AlbertPlace&) const = default;
};

TensorPlan PlanAlbert(const std::string& prefix, const TokenTable& table,
                      const std::vector<AlbertPlace>& places, const ModelConfig& config,
                      ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(prefix, plan);
  WantBertEmbedding(prefix, table, config, weights.embedding, plan);
  WantLinear(prefix + "encoder.embedding_hidden_mapping_in", config.embedding->dim,
             config.block.attention.embed_dim, true, weights.embedding.projection,
             weights.embedding.projection_bias, plan);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (config.layer_parameters[i] != i) continue;
    const std::string layer = absl::StrCat(prefix, "encoder.albert_layer_groups.", places[i].group,
                                           ".albert_layers.", places[i].inner, ".");
    WantBertAttention(layer, kAlbertLayer, config, weights.layers[i], plan);
    WantBertFeedForward(layer, kAlbertLayer, config, weights.layers[i], plan);
  }
  return plan;
}

// Makes a layer of each pass through one.
std::vector<AlbertPlace> ReadGroups(ConfigFields& fields, ModelConfig& config) {
  const int64_t passes = config.num_layers;
  const int64_t groups = fields.Int("num_hidden_groups", 1, kMaxLayers, 1);
  const int64_t inner = fields.Int("inner_group_num", 1, kMaxLayers, 1);
  if (groups > passes) {
    fields.Fail(Problem::kUnimplemented, "num_hidden_groups",
                absl::StrCat("got ", groups, ", wanted at most num_hidden_layers ", passes,
                             ": the others would not be used"));
    return {};
  }
  std::vector<AlbertPlace> places;
  for (int64_t i = 0; i < passes; ++i) {
    // As the class rounds.
    const auto group = static_cast<int64_t>(static_cast<double>(i) /
                                            (static_cast<double>(passes) / static_cast<double>(groups)));
    for (int64_t j = 0; j < inner; ++j) {
      const AlbertPlace place = {group, j};
      const auto first = std::find(places.begin(), places.end(), place);
      config.layer_parameters.push_back(static_cast<int32_t>(first - places.begin()));
      places.push_back(place);
    }
  }
  config.num_layers = passes * inner;
  return places;
}

}  // namespace

Format ReadAlbert(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  config = ReadBertSizes(fields, {.vocab_size = 30000,
                                  .hidden_size = 4096,
                                  .num_heads = 64,
                                  .intermediate_size = 16384,
                                  .activation = "gelu_new"});
  ReadBertTables(fields, /*num_token_types=*/2, *config.embedding);
  config.embedding->dim = fields.Int("embedding_size", 1, kMaxDimension, 128);
  config.embedding->projected = true;  // even where the widths are equal
  const std::vector<AlbertPlace> places = ReadGroups(fields, config);
  // Relative positions were served by transformers 4 and are ignored by 5.
  fields.Only("position_embedding_type", {"\"absolute\""});
  // The family has no decoder; the last four are of the first code, and the class never reads them.
  fields.WithoutEffect({"is_decoder", "is_causal", "classifier_dropout_prob", "down_scale_factor", "gap_size",
                        "net_structure_type", "num_memory_blocks"});
  const std::string prefix = FindPrefix(checkpoint, kBertTokenTable, {"", "albert."});
  const TokenTable table =
      ReadTokenTable(fields, prefix + kBertTokenTable, "predictions.decoder.weight", /*tied=*/true);
  format.plan = [prefix, table, places](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanAlbert(prefix, table, places, resolved, weights);
  };
  AddClassifiers({HeadDense(prefix + "pooler", RowActivation::kTanh)}, fields, checkpoint, format);
  AddMaskedLm({.base = "predictions", .transform = "predictions"},
              ToRowActivation(config.block.feed_forward.activation), table.tied, fields, checkpoint, format);
  return format;
}

}  // namespace headlight
