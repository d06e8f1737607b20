// SPDX-License-Identifier: Apache-2.0
//
// ModernBERT (Warner et al. 2024, arXiv:2412.13663) as transformers saves it: a pre-norm encoder whose layers
// see everything or a window, and turn queries and keys by another base accordingly. The first layer's
// attention has no norm before it, the embedding having one.
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

constexpr char kModernTokens[] = "embeddings.tok_embeddings.weight";

struct ModernBertPlan {
  std::string prefix;
  TokenTable table;
  bool norm_bias = false;
  bool attention_bias = false;
  bool mlp_bias = false;
};

TensorPlan PlanModernBert(const ModernBertPlan& options, const ModelConfig& config,
                          ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(options.prefix, plan);
  const int64_t width = config.block.attention.embed_dim;
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  const std::string& prefix = options.prefix;
  WantTokenTable(options.table, {config.embedding->vocab_size, width}, weights.embedding.tokens, plan);
  WantNorm(prefix + "embeddings.norm", width, options.norm_bias, weights.embedding.norm, plan);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(prefix, "layers.", i, ".");
    BlockParameters& block = weights.layers[i];
    AttentionParameters& attention = block.attention;
    FeedForwardParameters& mlp = block.feed_forward;
    if (i > 0) WantNorm(layer + "attn_norm", width, options.norm_bias, block.attention_norm, plan);
    WantFusedLinear(layer + "attn.Wqkv", width, options.attention_bias,
                    {{width, &attention.wq, &attention.bq},
                     {width, &attention.wk, &attention.bk},
                     {width, &attention.wv, &attention.bv}},
                    plan);
    WantLinear(layer + "attn.Wo", width, width, options.attention_bias, attention.wo, attention.bo, plan);
    WantNorm(layer + "mlp_norm", width, options.norm_bias, block.feed_forward_norm, plan);
    WantFusedLinear(layer + "mlp.Wi", width, options.mlp_bias,
                    {{hidden, &mlp.gate, &mlp.gate_bias}, {hidden, &mlp.up, &mlp.up_bias}}, plan);
    WantLinear(layer + "mlp.Wo", hidden, width, options.mlp_bias, mlp.down, mlp.down_bias, plan);
  }
  WantNorm(prefix + "final_norm", width, options.norm_bias, weights.final_norm, plan);
  return plan;
}

// What each layer is: "layer_types", or every so many layers one that sees everything.
std::vector<std::string> ReadLayerTypes(ConfigFields& fields, int64_t num_layers) {
  std::vector<std::string> types = fields.Strings("layer_types");
  if (fields.Has("layer_types")) {
    fields.WithoutEffect({"global_attn_every_n_layers"});
  } else {
    const int64_t every = fields.Int("global_attn_every_n_layers", 1, INT64_MAX, 3);
    for (int64_t i = 0; i < num_layers; ++i)
      types.emplace_back(i % every == 0 ? kFullAttention : kSlidingAttention);
  }
  if (std::ssize(types) != num_layers) {
    fields.Fail(Problem::kInvalid, "layer_types",
                absl::StrCat("got ", types.size(), ", wanted one for each of the ", num_layers, " layers"));
    types.resize(num_layers, kFullAttention);
  }
  for (const std::string& type : types) {
    if (type == kFullAttention || type == kSlidingAttention) continue;
    fields.Fail(
        Problem::kUnimplemented, "layer_types",
        absl::StrCat("got ", Quoted(type), ", served are ", kFullAttention, " and ", kSlidingAttention));
    break;
  }
  return types;
}

struct ModernBertRopes {
  RopeConfig full;
  RopeConfig sliding;
};

// Of one kind of layers, where null for theta would say nothing.
RopeConfig ReadKindOfRope(ConfigFields& fields, const char* kind, const RopeOptions& options) {
  ConfigFields scaling = fields.Object("rope_parameters").Object(kind);
  if (scaling.IsNull("rope_theta") || (!scaling.Has("rope_theta") && fields.IsNull(options.theta_key))) {
    fields.Fail(Problem::kInvalid, options.theta_key, "got null, wanted a number");
  }
  return ReadLayerRope(fields, kind, /*scaled=*/false, options);
}

ModernBertRopes ReadModernBertRopes(ConfigFields& fields) {
  // They would apply to both kinds, and to one another's.
  fields.Only("rope_scaling", {"{}"});
  fields.Only("original_max_position_embeddings", {"null"});
  const int64_t positions = fields.Int("max_position_embeddings", 1, kMaxDimension, 8192);
  return {.full = ReadKindOfRope(
              fields, kFullAttention,
              {.max_position_embeddings = positions, .theta = 160000.0, .theta_key = "global_rope_theta"}),
          .sliding = ReadKindOfRope(
              fields, kSlidingAttention,
              {.max_position_embeddings = positions, .theta = 10000.0, .theta_key = "local_rope_theta"})};
}

// Layers differ in what they see and in whether there is a norm before attention.
void SetLayers(const std::vector<std::string>& types, const ModernBertRopes& ropes, int64_t window,
               ModelConfig& config) {
  std::map<std::pair<bool, bool>, int32_t> indices;
  std::vector<BlockConfig> blocks;
  for (size_t i = 0; i < types.size(); ++i) {
    const bool sliding = types[i] == kSlidingAttention;
    const auto [found, added] = indices.insert({{sliding, i == 0}, static_cast<int32_t>(blocks.size())});
    config.layer_blocks.push_back(found->second);
    if (!added) continue;
    BlockConfig block = config.block;
    block.attention_norm = i > 0;
    block.attention.rope = sliding ? ropes.sliding : ropes.full;
    if (sliding) block.attention.window_left = block.attention.window_right = window;
    blocks.push_back(std::move(block));
  }
  config.block = blocks.front();
  config.other_blocks.assign(blocks.begin() + 1, blocks.end());
}

// All heads begin with the same dense layer and norm.
void AddModernBertHeads(const ModernBertPlan& options, ConfigFields& fields, const Shards& checkpoint,
                        Format& format) {
  if (checkpoint.Find("head.dense.weight") == nullptr) {
    return fields.WithoutEffect(
        {"classifier_activation", "classifier_bias", "classifier_pooling", "decoder_bias"});
  }
  HeadNames head;
  HeadStep dense = HeadDense("head.dense");
  dense.activation = ReadHeadActivation(fields, "classifier_activation", "gelu", head.refusal);
  dense.bias = fields.Bool("classifier_bias", false);
  HeadStep norm = HeadNorm("head.norm", format.config.block.norm_eps);
  norm.bias = options.norm_bias;
  const std::string pooling = fields.String("classifier_pooling", "cls");
  HeadNames of_tokens = head;
  of_tokens.kind = HeadKind::kTokenScores;
  of_tokens.task = "ForTokenClassification";
  of_tokens.steps = {dense, norm, HeadDense("classifier")};
  HeadNames of_vocab = head;
  of_vocab.kind = HeadKind::kLanguageModel;
  of_vocab.steps = {dense, norm};
  of_vocab.vocab = "decoder";
  of_vocab.vocab_bias = {"decoder.bias"};
  of_vocab.has_vocab_bias = fields.Bool("decoder_bias", true);
  of_vocab.tied = options.table.tied;
  HeadNames of_sequences = of_tokens;
  of_sequences.kind = HeadKind::kScores;
  of_sequences.task = "ForSequenceClassification";
  of_sequences.scores_of = pooling == "mean" ? ScoresOf::kMean : ScoresOf::kFirstToken;
  if (pooling != "mean" && pooling != "cls") {
    of_sequences.refusal =
        absl::StrCat("config.json: classifier_pooling: got ", Quoted(pooling), ", served are cls and mean");
  }
  AddHead(of_sequences, fields, checkpoint, format);
  AddHead(of_tokens, fields, checkpoint, format);
  // "head" alone is that of a classifier.
  if (checkpoint.Find("classifier.weight") == nullptr) AddHead(of_vocab, fields, checkpoint, format);
}

}  // namespace

Format ReadModernBert(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  BlockConfig& block = config.block;
  block.attention.embed_dim = fields.Int("hidden_size", 1, kMaxDimension, 768);
  block.attention.num_heads = fields.Int("num_attention_heads", 1, kMaxDimension, 12);
  config.num_layers = fields.Int("num_hidden_layers", 1, kMaxLayers, 22);
  block.norm_placement = NormPlacement::kPre;
  block.norm_eps = fields.Number("norm_eps", 1e-5);
  block.feed_forward = {.hidden_dim = fields.Int("intermediate_size", 1, kMaxDimension, 1152),
                        .activation = ReadHuggingFaceActivation(fields, "hidden_activation", "gelu"),
                        .gated = true};
  config.final_norm = true;
  config.embedding = {.vocab_size = fields.Int("vocab_size", 1, kMaxDimension, 50368), .norm = true};
  const ModernBertRopes ropes = ReadModernBertRopes(fields);
  const int64_t window = fields.Int("local_attention", 0, INT64_MAX, 128) / 2;
  SetLayers(ReadLayerTypes(fields, config.num_layers), ropes, window, config);
  // Other names of what is read above, which the class follows in part.
  fields.Only("sliding_window", {"null"});
  const int64_t head_dim = block.attention.embed_dim / block.attention.num_heads;
  fields.Only("head_dim", {absl::StrCat(head_dim).c_str()});
  // Of training, of how it is run, and names that the class never reads; it has no decoder.
  fields.WithoutEffect({"attention_dropout", "embedding_dropout", "mlp_dropout", "initializer_cutoff_factor",
                        "sparse_pred_ignore_index", "sparse_prediction", "deterministic_flash_attn",
                        "reference_compile", "repad_logits_with_grad", "cls_token_id", "layer_norm_eps",
                        "position_embedding_type", "is_decoder", "is_causal"});
  ModernBertPlan options;
  options.norm_bias = fields.Bool("norm_bias", false);
  options.attention_bias = fields.Bool("attention_bias", false);
  options.mlp_bias = fields.Bool("mlp_bias", false);
  options.prefix = FindPrefix(checkpoint, kModernTokens, {"", "model."});
  options.table = ReadTokenTable(fields, options.prefix + kModernTokens, "decoder.weight", /*tied=*/true);
  format.plan = [options](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanModernBert(options, resolved, weights);
  };
  AddModernBertHeads(options, fields, checkpoint, format);
  return format;
}

}  // namespace headlight
