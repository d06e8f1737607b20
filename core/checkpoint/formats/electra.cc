// SPDX-License-Identifier: Apache-2.0
//
// ELECTRA (Clark et al. 2020, arXiv:2003.10555) as transformers saves it, discriminator or generator: BERT
// whose embeddings may be narrower than its layers.
#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/bert_like.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

TensorPlan PlanElectra(const std::string& prefix, const TokenTable& table, const ModelConfig& config,
                       ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(prefix, plan);
  WantBertEmbedding(prefix, table, config, weights.embedding, plan);
  const int64_t width = config.block.attention.embed_dim;
  if (config.embedding->projected) {
    WantLinear(prefix + "embeddings_project", config.embedding->dim, width, true,
               weights.embedding.projection, weights.embedding.projection_bias, plan);
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(prefix, "encoder.layer.", i, ".");
    WantBertAttention(layer, {}, config, weights.layers[i], plan);
    WantBertFeedForward(layer, {}, config, weights.layers[i], plan);
  }
  return plan;
}

}  // namespace

Format ReadElectra(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  config = ReadBertSizes(fields, {.hidden_size = 256, .num_heads = 4, .intermediate_size = 1024});
  ReadBertTables(fields, /*num_token_types=*/2, *config.embedding);
  ReadBertDecoder(fields, config);
  config.embedding->dim = fields.Int("embedding_size", 1, kMaxDimension, 128);
  // Relative positions were served by transformers 4 and are ignored by 5.
  fields.Only("position_embedding_type", {"\"absolute\""});
  // Of the heads of multiple choice.
  fields.WithoutEffect({"summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"});
  const std::string prefix = FindPrefix(checkpoint, kBertTokenTable, {"", "electra."});
  const TokenTable table =
      ReadTokenTable(fields, prefix + kBertTokenTable, "generator_lm_head.weight", /*tied=*/true);
  format.plan = [prefix, table](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanElectra(prefix, table, resolved, weights);
  };
  // These compute gelu whatever "hidden_act" says.
  AddDenseClassifiers(RowActivation::kGeluErf, fields, checkpoint, format);
  AddHead({.kind = HeadKind::kLanguageModel,
           .steps = {HeadDense("generator_predictions.dense", RowActivation::kGeluErf),
                     HeadNorm("generator_predictions.LayerNorm", config.block.norm_eps)},
           .vocab = "generator_lm_head",
           .vocab_bias = {"generator_lm_head.bias"},
           .tied = table.tied},
          fields, checkpoint, format);
  return format;
}

}  // namespace headlight
