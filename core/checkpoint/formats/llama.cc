// SPDX-License-Identifier: Apache-2.0
//
// LLaMA (Touvron et al. 2023, arXiv:2302.13971), Mistral (Jiang et al. 2023, arXiv:2310.06825) and Qwen2 (Yang
// et al. 2024, arXiv:2407.10671) as transformers saves them: pre-norm, causal, grouped-query attention with
// rotary positions, RMSNorm, gated feed-forward networks.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

// What the families differ in.
struct Options {
  std::string prefix;
  TokenTable table;
  bool qkv_bias = false;
  bool output_bias = false;  // of attention
  bool mlp_bias = false;
};

// Kinds of layers, as "layer_types" calls them.
constexpr char kFull[] = "full_attention";
constexpr char kSliding[] = "sliding_attention";

// Defaults of a family's class.
struct Defaults {
  int64_t hidden_dim;
  int64_t num_kv_heads;  // 0: as many as heads
  int64_t max_position_embeddings;
};

TensorPlan Plan(const Options& options, const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(options.prefix, plan);
  const AttentionConfig& sizes = config.block.attention;
  const int64_t width = sizes.embed_dim;
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  WantTokenTable(options.table, {config.embedding->vocab_size, width}, weights.embedding.tokens, plan);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(options.prefix, "layers.", i, ".");
    BlockParameters& block = weights.layers[i];
    AttentionParameters& attention = block.attention;
    FeedForwardParameters& mlp = block.feed_forward;
    const bool bias = options.qkv_bias;
    WantNorm(layer + "input_layernorm", width, false, block.attention_norm, plan);
    WantLinear(layer + "self_attn.q_proj", width, sizes.q_width(), bias, attention.wq, attention.bq, plan);
    WantLinear(layer + "self_attn.k_proj", width, sizes.kv_width(), bias, attention.wk, attention.bk, plan);
    WantLinear(layer + "self_attn.v_proj", width, sizes.kv_width(), bias, attention.wv, attention.bv, plan);
    WantLinear(layer + "self_attn.o_proj", sizes.q_width(), width, options.output_bias, attention.wo,
               attention.bo, plan);
    WantNorm(layer + "post_attention_layernorm", width, false, block.feed_forward_norm, plan);
    WantLinear(layer + "mlp.gate_proj", width, hidden, options.mlp_bias, mlp.gate, mlp.gate_bias, plan);
    WantLinear(layer + "mlp.up_proj", width, hidden, options.mlp_bias, mlp.up, mlp.up_bias, plan);
    WantLinear(layer + "mlp.down_proj", hidden, width, options.mlp_bias, mlp.down, mlp.down_bias, plan);
  }
  WantNorm(options.prefix + "norm", width, false, weights.final_norm, plan);
  return plan;
}

Format ReadFamily(ConfigFields& fields, const Shards& checkpoint, const Defaults& defaults, Options options) {
  Format format;
  ModelConfig& config = format.config;
  BlockConfig& block = config.block;
  AttentionConfig& attention = block.attention;
  attention.embed_dim = fields.Int("hidden_size", 1, kMaxDimension, 4096);
  attention.num_heads = fields.Int("num_attention_heads", 1, kMaxDimension, 32);
  // Null says as many as heads, absence what the class says.
  const bool as_heads = defaults.num_kv_heads == 0 || fields.IsNull("num_key_value_heads");
  attention.num_kv_heads = fields.Int("num_key_value_heads", 1, kMaxDimension,
                                      as_heads ? attention.num_heads : defaults.num_kv_heads);
  attention.head_dim = fields.Int("head_dim", 1, kMaxDimension,
                                  std::max<int64_t>(1, attention.embed_dim / attention.num_heads));
  attention.rope = ReadHuggingFaceRope(
      fields, fields.Int("max_position_embeddings", 1, kMaxDimension, defaults.max_position_embeddings));
  config.num_layers = fields.Int("num_hidden_layers", 1, kMaxLayers, 32);
  block.norm_placement = NormPlacement::kPre;
  block.norm_kind = NormKind::kRmsNorm;
  block.norm_eps = fields.Number("rms_norm_eps", 1e-6);
  block.feed_forward.hidden_dim = fields.Int("intermediate_size", 1, kMaxDimension, defaults.hidden_dim);
  block.feed_forward.activation = ReadHuggingFaceActivation(fields, "hidden_act", "silu");
  block.feed_forward.gated = true;
  config.final_norm = true;
  config.causal = true;
  RefuseNonCausal(fields);
  config.embedding = {.vocab_size = fields.Int("vocab_size", 1, kMaxDimension, 32000)};
  // The families are decoders whether or not they say so; pretraining_tp sums the same in other order.
  fields.WithoutEffect({"is_decoder", "attention_dropout", "pretraining_tp"});
  // "transformer." is what the question answering model calls it.
  options.prefix = FindPrefix(checkpoint, "embed_tokens.weight", {"", "model.", "transformer."});
  options.table =
      ReadTokenTable(fields, options.prefix + "embed_tokens.weight", "lm_head.weight", /*tied=*/false);
  format.plan = [options](const ModelConfig& resolved, ModelParameters& weights) {
    return Plan(options, resolved, weights);
  };
  return format;
}

// Qwen2's windows are off unless they are switched on, and then those of the layers that "layer_types" names, or
// from one layer on.
void ReadLayerWindows(ConfigFields& fields, ModelConfig& config) {
  using Problem = ConfigFields::Problem;
  std::optional<int64_t> window;
  if (fields.Bool("use_sliding_window", false)) {
    if (!fields.IsNull("sliding_window")) window = fields.Int("sliding_window", 1, INT64_MAX, 4096);
  } else {
    fields.WithoutEffect({"sliding_window"});
  }
  const int64_t first = fields.Int("max_window_layers", 0, INT64_MAX, 28);
  std::vector<std::string> types = fields.Strings("layer_types");
  if (!fields.Has("layer_types")) {
    for (int64_t i = 0; i < config.num_layers; ++i) {
      types.emplace_back(window && i >= first ? kSliding : kFull);
    }
  }
  if (std::ssize(types) != config.num_layers) {
    return fields.Fail(
        Problem::kInvalid, "layer_types",
        absl::StrCat("got ", types.size(), ", wanted one for each of the ", config.num_layers, " layers"));
  }
  for (const std::string& type : types) {
    if (type == kFull || (type == kSliding && window)) continue;
    return fields.Fail(
        Problem::kUnimplemented, "layer_types",
        absl::StrCat("got ", Quoted(type), ", served are ", kFull, " and, with a window, ", kSliding));
  }
  const int64_t sliding = std::count(types.begin(), types.end(), kSliding);
  if (sliding == 0) return;
  BlockConfig windowed = config.block;
  windowed.attention.window_left = *window - 1;
  if (sliding == config.num_layers) {
    config.block = windowed;
    return;
  }
  config.other_blocks = {windowed};
  for (const std::string& type : types) config.layer_blocks.push_back(type == kSliding ? 1 : 0);
}

}  // namespace

Format ReadLlama(ConfigFields& fields, const Shards& checkpoint) {
  Options options;
  options.qkv_bias = options.output_bias = fields.Bool("attention_bias", false);
  options.mlp_bias = fields.Bool("mlp_bias", false);
  return ReadFamily(fields, checkpoint,
                    {.hidden_dim = 11008, .num_kv_heads = 0, .max_position_embeddings = 2048}, options);
}

Format ReadMistral(ConfigFields& fields, const Shards& checkpoint) {
  Format format =
      ReadFamily(fields, checkpoint,
                 {.hidden_dim = 14336, .num_kv_heads = 8, .max_position_embeddings = int64_t{4096} * 32}, {});
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

Format ReadQwen2(ConfigFields& fields, const Shards& checkpoint) {
  Format format = ReadFamily(fields, checkpoint,
                             {.hidden_dim = 22016, .num_kv_heads = 32, .max_position_embeddings = 32768},
                             {.qkv_bias = true});
  ReadLayerWindows(fields, format.config);
  return format;
}

}  // namespace headlight
