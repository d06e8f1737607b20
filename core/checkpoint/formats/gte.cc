// SPDX-License-Identifier: Apache-2.0
//
// GTE (Zhang et al. 2024, "mGTE", arXiv:2407.19669): a post-norm encoder with rotary positions and gated
// feed-forward networks. transformers 5 has a class for it, "gte"; its makers' own code calls itself "new"
// and has names of its own for tensors, which transformers 5 understands, and some options.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/bert_like.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

struct GtePlan {
  std::string prefix;
  TokenTable table;
  bool old_names = false;
  bool fused = false;  // queries, keys and values, with the older names
};

void WantOldGteLayer(const std::string& layer, bool fused, const ModelConfig& config, BlockParameters& block,
                     TensorPlan& plan) {
  const int64_t width = config.block.attention.embed_dim;
  const int64_t heads = config.block.attention.q_width();
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  AttentionParameters& attention = block.attention;
  FeedForwardParameters& mlp = block.feed_forward;
  if (fused) {
    WantFusedLinear(layer + "attention.qkv_proj", width, true,
                    {{heads, &attention.wq, &attention.bq},
                     {heads, &attention.wk, &attention.bk},
                     {heads, &attention.wv, &attention.bv}},
                    plan);
  } else {
    WantLinear(layer + "attention.q_proj", width, heads, true, attention.wq, attention.bq, plan);
    WantLinear(layer + "attention.k_proj", width, heads, true, attention.wk, attention.bk, plan);
    WantLinear(layer + "attention.v_proj", width, heads, true, attention.wv, attention.bv, plan);
  }
  WantLinear(layer + "attention.o_proj", heads, width, true, attention.wo, attention.bo, plan);
  WantNorm(layer + "attn_ln", width, true, block.attention_norm, plan);
  WantFusedLinear(layer + "mlp.up_gate_proj", width, false,
                  {{hidden, &mlp.up, &mlp.up_bias}, {hidden, &mlp.gate, &mlp.gate_bias}}, plan);
  WantLinear(layer + "mlp.down_proj", hidden, width, true, mlp.down, mlp.down_bias, plan);
  WantNorm(layer + "mlp_ln", width, true, block.feed_forward_norm, plan);
}

TensorPlan PlanGte(const GtePlan& options, const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  const std::string& prefix = options.prefix;
  IgnoreHeadsAndBuffers(prefix, plan);
  WantBertEmbedding(prefix, options.table, config, weights.embedding, plan);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    BlockParameters& block = weights.layers[i];
    if (options.old_names) {
      WantOldGteLayer(absl::StrCat(prefix, "encoder.layer.", i, "."), options.fused, config, block, plan);
    } else {
      WantRotaryGatedLayer(absl::StrCat(prefix, "layers.", i, "."), /*attention_bias=*/true,
                           /*down_bias=*/true, config, block, plan);
    }
  }
  return plan;
}

// What the two kinds share. The language model's head of the makers' code has the activation of the layers,
// that of transformers always gelu.
Format ReadGteLike(ConfigFields& fields, const Shards& checkpoint, int64_t vocab_size, bool makers_code) {
  Format format;
  ModelConfig& config = format.config;
  config = ReadBertSizes(fields, {.vocab_size = vocab_size});
  config.block.feed_forward.gated = true;
  config.embedding->num_token_types = fields.Int("type_vocab_size", 0, kMaxDimension, 1);
  // The family has no decoder.
  fields.WithoutEffect({"is_decoder", "is_causal"});
  GtePlan options;
  options.prefix = FindPrefix(checkpoint, kBertTokenTable, {"", "gte.", "new."});
  const std::string layer = options.prefix + "encoder.layer.0.";
  options.fused = checkpoint.Find(layer + "attention.qkv_proj.weight") != nullptr;
  options.old_names = options.fused || checkpoint.Find(layer + "attn_ln.weight") != nullptr;
  options.table =
      ReadTokenTable(fields, options.prefix + kBertTokenTable, "lm_head.decoder.weight", /*tied=*/true);
  format.plan = [options](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanGte(options, resolved, weights);
  };
  AddClassifiers({HeadDense(options.prefix + "pooler.dense", RowActivation::kTanh)}, fields, checkpoint,
                 format);
  MaskedLmNames lm = kRobertaLm;
  if (checkpoint.Find("lm_head.norm.weight") != nullptr) lm.norm = "norm";
  AddMaskedLm(lm,
              makers_code ? ToRowActivation(config.block.feed_forward.activation) : RowActivation::kGeluErf,
              options.table.tied, fields, checkpoint, format);
  return format;
}

// The NTK-aware positions of the makers' code, which divides all frequencies once more than others do.
RopeConfig ReadGteNtk(ConfigFields& scaling, double theta, int64_t head_dim) {
  const double factor = scaling.Number("factor");
  scaling.Only("mixed_b", {"null"});
  RopeConfig rope;
  rope.theta = theta * factor;
  if (factor != 1.0) {
    rope.scaling = RopeConfig::Scaling::kLinear;
    rope.factor = std::pow(factor, 2.0 / static_cast<double>(head_dim));
  }
  return rope;
}

// The options of the makers' code.
void ReadGteCode(ConfigFields& fields, AttentionConfig& attention) {
  const double theta = fields.Number("rope_theta", 10000.0);
  ConfigFields scaling = fields.Object("rope_scaling");
  if (scaling.empty()) {
    attention.rope = RopeConfig{.theta = theta};
  } else {
    const std::string type = scaling.String(scaling.EitherOf("type", "rope_type"));
    if (type != "ntk") {
      scaling.Fail(ConfigFields::Problem::kUnimplemented, "type",
                   absl::StrCat("got \"", type, "\", served is \"ntk\""));
    }
    attention.rope =
        ReadGteNtk(scaling, theta, std::max<int64_t>(1, attention.embed_dim / attention.num_heads));
  }
  fields.Only("position_embedding_type", {"\"rope\""});
  fields.Only("layer_norm_type", {"\"layer_norm\""});
  fields.Only("logn_attention_scale", {"false"});
  // The second says how to scale by logn; the others how it is run and how tensors are called, which is seen.
  fields.WithoutEffect({"max_position_embeddings", "logn_attention_clip1", "pack_qkv", "unpad_inputs",
                        "use_memory_efficient_attention"});
}

}  // namespace

Format ReadGte(ConfigFields& fields, const Shards& checkpoint) {
  // Some models have the makers' code under this name.
  if (CodeIsOf(fields, "Gte")) {
    Format format = ReadNew(fields, checkpoint);
    format.knows_code = true;
    return format;
  }
  Format format = ReadGteLike(fields, checkpoint, 250048, /*makers_code=*/false);
  AttentionConfig& attention = format.config.block.attention;
  attention.head_dim = fields.Int("head_dim", 1, kMaxDimension,
                                  std::max<int64_t>(1, attention.embed_dim / attention.num_heads));
  attention.rope = ReadHuggingFaceRope(
      fields, {.max_position_embeddings = fields.Int("max_position_embeddings", 1, kMaxDimension, 8192),
               .theta = 160000.0});
  return format;
}

Format ReadNew(ConfigFields& fields, const Shards& checkpoint) {
  Format format = ReadGteLike(fields, checkpoint, 30528, /*makers_code=*/true);
  ReadGteCode(fields, format.config.block.attention);
  format.knows_code = CodeIsOf(fields, "New");
  return format;
}

}  // namespace headlight
