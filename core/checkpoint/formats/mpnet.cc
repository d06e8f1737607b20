// SPDX-License-Identifier: Apache-2.0
//
// MPNet (Song et al. 2020, arXiv:2004.09297) as transformers saves it: BERT without token types, with
// positions counted as RoBERTa's and a bias by distance, the same in all layers.
#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/bert_like.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

constexpr BertLayerNames kMpnetLayer = {.query = "attention.attn.q",
                                        .key = "attention.attn.k",
                                        .value = "attention.attn.v",
                                        .attention_output = "attention.attn.o",
                                        .attention_norm = "attention.LayerNorm"};

TensorPlan PlanMpnet(const std::string& prefix, const TokenTable& table, const ModelConfig& config,
                     ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(prefix, plan);
  WantBertEmbedding(prefix, table, config, weights.embedding, plan);
  const AttentionConfig& attention = config.block.attention;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(prefix, "encoder.layer.", i, ".");
    WantBertAttention(layer, kMpnetLayer, config, weights.layers[i], plan);
    WantBertFeedForward(layer, kMpnetLayer, config, weights.layers[i], plan);
    WantAsIs(prefix + "encoder.relative_attention_bias.weight",
             {attention.relative_bias->num_buckets, attention.num_heads},
             weights.layers[i].attention.relative_bias, plan);
  }
  return plan;
}

}  // namespace

Format ReadMpnet(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  format.config = ReadBertSizes(fields, {.vocab_size = 30527});
  format.config.embedding->num_positions = fields.Int("max_position_embeddings", 1, kMaxDimension, 512);
  // The class has these numbers in itself, whatever the keys say.
  format.config.embedding->padding_id = 1;
  format.config.embedding->position_offset = 2;
  format.config.block.attention.relative_bias = {.num_buckets = 32, .max_distance = 128};
  fields.Only("relative_attention_num_buckets", {"32"});
  // The family has no decoder.
  fields.WithoutEffect({"is_decoder", "is_causal"});
  const std::string prefix = FindPrefix(checkpoint, kBertTokenTable, {"", "mpnet."});
  const TokenTable table =
      ReadTokenTable(fields, prefix + kBertTokenTable, "lm_head.decoder.weight", /*tied=*/true);
  format.plan = [prefix, table](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanMpnet(prefix, table, resolved, weights);
  };
  AddDenseClassifiers(RowActivation::kTanh, fields, checkpoint, format);
  AddMaskedLm(kRobertaLm, RowActivation::kGeluErf, table.tied, fields, checkpoint, format);
  return format;
}

}  // namespace headlight
