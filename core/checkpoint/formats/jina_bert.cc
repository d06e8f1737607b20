// SPDX-License-Identifier: Apache-2.0
//
// Jina's embeddings 2 (Günther et al. 2023, arXiv:2310.19923): BERT with ALiBi for positions and gated
// feed-forward networks. It calls itself "bert", and its code comes with it.
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "core/checkpoint/formats/bert_like.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

TensorPlan PlanJinaBert(const std::string& prefix, const TokenTable& table, const ModelConfig& config,
                        ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(prefix, plan);
  plan.ignored_suffixes.emplace_back("encoder.alibi");
  WantBertEmbedding(prefix, table, config, weights.embedding, plan);
  const int64_t width = config.block.attention.embed_dim;
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(prefix, "encoder.layer.", i, ".");
    BlockParameters& block = weights.layers[i];
    WantBertAttention(layer, {}, config, block, plan);
    if (!config.block.feed_forward.gated) {
      WantBertFeedForward(layer, {}, config, block, plan);
      continue;
    }
    FeedForwardParameters& mlp = block.feed_forward;
    WantFusedLinear(layer + "mlp.gated_layers", width, false,
                    {{hidden, &mlp.gate, &mlp.gate_bias}, {hidden, &mlp.up, &mlp.up_bias}}, plan);
    WantLinear(layer + "mlp.wo", hidden, width, true, mlp.down, mlp.down_bias, plan);
    WantNorm(layer + "mlp.layernorm", width, true, block.feed_forward_norm, plan);
  }
  return plan;
}

// The variant whose queries and keys have norms, which comes with the same names of classes.
void RefuseQkNorm(ConfigFields& fields) {
  ConfigFields code = fields.Object("auto_map");
  for (const std::string& key : code.keys()) {
    if (key == "AutoTokenizer") continue;
    for (const std::string& name : code.StringOrStrings(key)) {
      if (name.find("qk-post-norm") == std::string::npos) continue;
      return fields.Fail(
          ConfigFields::Problem::kUnimplemented, "auto_map",
          absl::StrCat("got ", Quoted(name), ", whose queries and keys have LayerNorms; not served"));
    }
  }
}

}  // namespace

bool IsJinaBert(ConfigFields& fields) {
  if (CodeIsOf(fields, "JinaBert")) return true;
  return fields.Has("feed_forward_type") || fields.Is("position_embedding_type", "\"alibi\"");
}

Format ReadJinaBert(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  config = ReadBertSizes(fields, {});
  config.embedding->num_token_types = fields.Int("type_vocab_size", 0, kMaxDimension, 2);
  if (fields.String("position_embedding_type", "absolute") != "alibi") {
    fields.Fail(ConfigFields::Problem::kUnimplemented, "position_embedding_type",
                "wanted \"alibi\", without which Jina's code has other positions");
  }
  config.block.attention.alibi = true;
  FeedForwardConfig& network = config.block.feed_forward;
  const RowActivation hidden_act = ToRowActivation(network.activation);
  const std::string type = fields.String("feed_forward_type", "original");
  network.gated = type != "original";
  // These have an activation of their own, and "hidden_act" is that of the language model's head alone.
  if (type == "geglu") network.activation = Activation::kGeluErf;
  if (type == "reglu") network.activation = Activation::kRelu;
  if (type != "geglu" && type != "reglu" && type != "original") {
    fields.Fail(ConfigFields::Problem::kUnimplemented, "feed_forward_type",
                absl::StrCat("got ", Quoted(type), ", served are geglu, reglu, original"));
  }
  fields.Only("is_decoder", {"false"});
  // How long its table of biases is made at first, how it pools and splits text on its own.
  fields.WithoutEffect({"max_position_embeddings", "emb_pooler", "model_max_length", "is_causal"});
  RefuseQkNorm(fields);
  format.knows_code = CodeIsOf(fields, "JinaBert");
  const std::string prefix = FindPrefix(checkpoint, kBertTokenTable, {"", "bert."});
  const TokenTable table =
      ReadTokenTable(fields, prefix + kBertTokenTable, "cls.predictions.decoder.weight", /*tied=*/true);
  format.plan = [prefix, table](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanJinaBert(prefix, table, resolved, weights);
  };
  AddClassifiers({HeadDense(prefix + "pooler.dense", RowActivation::kTanh)}, fields, checkpoint, format);
  AddMaskedLm(kBertLm, hidden_act, table.tied, fields, checkpoint, format);
  return format;
}

}  // namespace headlight
