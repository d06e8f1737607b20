// SPDX-License-Identifier: Apache-2.0
//
// LLaMA (Touvron et al. 2023, arXiv:2302.13971) and Mistral (Jiang et al. 2023, arXiv:2310.06825) as
// transformers saves them, and what others make of them.
#include "core/checkpoint/formats/llama.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "core/checkpoint/formats/heads.h"

namespace headlight {
namespace {

// Where a family's tensors are.
struct LlamaPlaces {
  std::string prefix;
  TokenTable table;
  LlamaOptions options;
};

void WantRmsNorm(const LlamaPlaces& places, const std::string& name, int64_t width, NormParameters& norm,
                 TensorPlan& plan) {
  WantNorm(name, width, false, norm, plan);
  plan.wanted.back().added = places.options.added_to_gains;
}

void WantLlamaNorms(const LlamaPlaces& places, const std::string& layer, int64_t width,
                    BlockParameters& block, TensorPlan& plan) {
  const auto want = [&](const char* name, NormParameters& norm) {
    WantRmsNorm(places, layer + name, width, norm, plan);
  };
  switch (places.options.norm_placement) {
    case NormPlacement::kBranch:
      want("post_attention_layernorm", block.attention_norm);
      want("post_feedforward_layernorm", block.feed_forward_norm);
      break;
    case NormPlacement::kSandwich:
      want("input_layernorm", block.attention_norm);
      want("post_attention_layernorm", block.attention_output_norm);
      want("pre_feedforward_layernorm", block.feed_forward_norm);
      want("post_feedforward_layernorm", block.feed_forward_output_norm);
      break;
    default:
      want("input_layernorm", block.attention_norm);
      want("post_attention_layernorm", block.feed_forward_norm);
      break;
  }
}

void WantLlamaAttention(const LlamaPlaces& places, const std::string& name, const AttentionConfig& sizes,
                        AttentionParameters& attention, TensorPlan& plan) {
  const int64_t width = sizes.embed_dim, q_width = sizes.q_width(), kv_width = sizes.kv_width();
  const LlamaOptions& options = places.options;
  if (options.fused) {
    WantFusedLinear(name + "qkv_proj", width, options.qkv_bias,
                    {{q_width, &attention.wq, &attention.bq},
                     {kv_width, &attention.wk, &attention.bk},
                     {kv_width, &attention.wv, &attention.bv}},
                    plan);
  } else {
    WantLinear(name + "q_proj", width, q_width, options.qkv_bias, attention.wq, attention.bq, plan);
    WantLinear(name + "k_proj", width, kv_width, options.qkv_bias, attention.wk, attention.bk, plan);
    WantLinear(name + "v_proj", width, kv_width, options.qkv_bias, attention.wv, attention.bv, plan);
  }
  WantLinear(name + "o_proj", q_width, width, options.output_bias, attention.wo, attention.bo, plan);
  if (sizes.qk_norm == QkNorm::kNone) return;
  const bool each = sizes.qk_norm == QkNorm::kEachHead;
  WantAsIs(name + "q_norm.weight", {each ? sizes.head_dim : q_width}, attention.q_norm, plan);
  plan.wanted.back().added = options.added_to_gains;
  WantAsIs(name + "k_norm.weight", {each ? sizes.head_dim : kv_width}, attention.k_norm, plan);
  plan.wanted.back().added = options.added_to_gains;
}

void WantLlamaNetwork(const LlamaPlaces& places, const std::string& name, int64_t width, int64_t hidden,
                      FeedForwardParameters& mlp, TensorPlan& plan) {
  const bool bias = places.options.mlp_bias;
  if (places.options.fused) {
    WantFusedLinear(name + "gate_up_proj", width, bias,
                    {{hidden, &mlp.gate, &mlp.gate_bias}, {hidden, &mlp.up, &mlp.up_bias}}, plan);
  } else {
    WantLinear(name + "gate_proj", width, hidden, bias, mlp.gate, mlp.gate_bias, plan);
    WantLinear(name + "up_proj", width, hidden, bias, mlp.up, mlp.up_bias, plan);
  }
  WantLinear(name + "down_proj", hidden, width, bias, mlp.down, mlp.down_bias, plan);
}

TensorPlan Plan(const LlamaPlaces& places, const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(places.prefix, plan);
  const AttentionConfig& sizes = config.block.attention;
  const int64_t width = sizes.embed_dim;
  WantTokenTable(places.table, {config.embedding->vocab_size, width}, weights.embedding.tokens, plan);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(places.prefix, "layers.", i, ".");
    BlockParameters& block = weights.layers[i];
    WantLlamaNorms(places, layer, width, block, plan);
    WantLlamaAttention(places, layer + "self_attn.", sizes, block.attention, plan);
    WantLlamaNetwork(places, layer + "mlp.", width, config.block.feed_forward.hidden_dim, block.feed_forward,
                     plan);
  }
  WantRmsNorm(places, places.prefix + "norm", width, weights.final_norm, plan);
  return plan;
}

AttentionConfig ReadLlamaAttention(ConfigFields& fields, const LlamaDefaults& defaults,
                                   const LlamaOptions& options) {
  AttentionConfig attention;
  attention.embed_dim = fields.Int("hidden_size", 1, kMaxDimension, defaults.embed_dim);
  attention.num_heads = fields.Int("num_attention_heads", 1, kMaxDimension, defaults.num_heads);
  // Null says as many as heads, absence what the class says.
  const bool as_heads = defaults.num_kv_heads == 0 || fields.IsNull("num_key_value_heads");
  attention.num_kv_heads = fields.Int("num_key_value_heads", 1, kMaxDimension,
                                      as_heads ? attention.num_heads : defaults.num_kv_heads);
  attention.head_dim =
      fields.Int("head_dim", 1, kMaxDimension,
                 defaults.head_dim > 0 ? defaults.head_dim
                                       : std::max<int64_t>(1, attention.embed_dim / attention.num_heads));
  if (defaults.head_dim > 0 && fields.IsNull("head_dim")) {
    fields.Fail(ConfigFields::Problem::kInvalid, "head_dim", "got null, wanted a number in this family");
  }
  attention.qk_norm = options.qk_norm;
  attention.qk_norm_eps = fields.Number("rms_norm_eps", defaults.norm_eps);
  RopeOptions rope = options.rope;
  rope.max_position_embeddings =
      fields.Int("max_position_embeddings", 1, kMaxDimension, defaults.max_position_embeddings);
  if (options.part_of_a_head_turns) rope.head_dim = attention.head_dim;
  if (!options.rope_by_layer) attention.rope = ReadHuggingFaceRope(fields, rope);
  return attention;
}

}  // namespace

Format ReadLlamaLike(ConfigFields& fields, const Shards& checkpoint, const LlamaDefaults& defaults,
                     const LlamaOptions& options) {
  Format format;
  ModelConfig& config = format.config;
  BlockConfig& block = config.block;
  block.attention = ReadLlamaAttention(fields, defaults, options);
  config.num_layers = fields.Int("num_hidden_layers", 1, kMaxLayers, defaults.num_layers);
  block.norm_placement = options.norm_placement;
  block.norm_kind = NormKind::kRmsNorm;
  block.norm_eps = block.attention.qk_norm_eps;
  block.feed_forward.hidden_dim = fields.Int("intermediate_size", 1, kMaxDimension, defaults.hidden_dim);
  block.feed_forward.activation =
      ReadHuggingFaceActivation(fields, defaults.activation_key, defaults.activation);
  block.feed_forward.gated = true;
  config.final_norm = true;
  config.causal = true;
  RefuseNonCausal(fields);
  config.embedding = {.vocab_size = fields.Int("vocab_size", 1, kMaxDimension, defaults.vocab_size)};
  // The families are decoders whether or not they say so; pretraining_tp sums the same in other order.
  fields.WithoutEffect({"is_decoder", "attention_dropout", "pretraining_tp"});
  // "transformer." is what the question answering model calls it.
  LlamaPlaces places = {.options = options};
  places.prefix = FindPrefix(checkpoint, "embed_tokens.weight", {"", "model.", "transformer."});
  places.table =
      ReadTokenTable(fields, places.prefix + "embed_tokens.weight", "lm_head.weight", defaults.tied);
  format.plan = [places](const ModelConfig& resolved, ModelParameters& weights) {
    return Plan(places, resolved, weights);
  };
  AddDecoderHeads({.tied = places.table.tied, .logit_cap = options.logit_cap}, fields, checkpoint, format);
  return format;
}

std::vector<bool> ReadSlidingLayers(ConfigFields& fields, std::vector<bool> absent, bool windows) {
  using Problem = ConfigFields::Problem;
  if (!fields.Has("layer_types")) return absent;
  const std::vector<std::string> types = fields.Strings("layer_types");
  if (types.size() != absent.size()) {
    fields.Fail(
        Problem::kInvalid, "layer_types",
        absl::StrCat("got ", types.size(), ", wanted one for each of the ", absent.size(), " layers"));
    return absent;
  }
  std::vector<bool> sliding;
  for (const std::string& type : types) {
    sliding.push_back(type == kSlidingAttention);
    if (type == kFullAttention || (type == kSlidingAttention && windows)) continue;
    fields.Fail(Problem::kUnimplemented, "layer_types",
                absl::StrCat("got ", Quoted(type), ", served are ", kFullAttention, " and, with a window, ",
                             kSlidingAttention));
    return absent;
  }
  return sliding;
}

void SetSlidingLayers(const std::vector<bool>& sliding, const BlockConfig& block, ModelConfig& config) {
  const int64_t count = std::count(sliding.begin(), sliding.end(), true);
  if (count == 0) return;
  if (count == std::ssize(sliding)) {
    config.block = block;
    return;
  }
  config.other_blocks = {block};
  for (const bool slides : sliding) config.layer_blocks.push_back(slides ? 1 : 0);
}

Format ReadLlama(ConfigFields& fields, const Shards& checkpoint) {
  LlamaOptions options;
  options.qkv_bias = options.output_bias = fields.Bool("attention_bias", false);
  options.mlp_bias = fields.Bool("mlp_bias", false);
  return ReadLlamaLike(fields, checkpoint, {}, options);
}

Format ReadMistral(ConfigFields& fields, const Shards& checkpoint) {
  Format format = ReadLlamaLike(
      fields, checkpoint,
      {.num_kv_heads = 8, .hidden_dim = 14336, .max_position_embeddings = int64_t{4096} * 32}, {});
  // A query sees this many keys, itself among them. Null says all, absence what the class says.
  if (!fields.IsNull("sliding_window")) {
    const int64_t window = fields.Int("sliding_window", 1, INT64_MAX, 4096);
    format.config.block.attention.window_left = window - 1;
  }
  // With it transformers takes the model for another family, whose layers differ; so it does for null.
  if (fields.Has("layer_types") || fields.IsNull("layer_types")) {
    fields.Fail(ConfigFields::Problem::kUnimplemented, "layer_types",
                "got it, which makes the model another family, ministral; not served");
  }
  return format;
}

}  // namespace headlight
