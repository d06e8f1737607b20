// SPDX-License-Identifier: Apache-2.0
//
// GPT-NeoX (Black et al. 2022, arXiv:2204.06745) and Pythia as transformers saves them: causal stacks whose
// attention and feed-forward network read the same input side by side, with rotary positions of a part of
// each head, whose queries, keys and values are fused head by head.
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

using Problem = ConfigFields::Problem;

// Where a checkpoint's tensors are.
struct NeoXPlaces {
  std::string prefix;
  TokenTable table;
  bool bias = true;  // of attention
};

// Each head has its query, key and value one after the other.
void WantFusedHeads(const NeoXPlaces& places, const std::string& name, const AttentionConfig& sizes,
                    AttentionParameters& attention, TensorPlan& plan) {
  const int64_t dim = sizes.head_dim, width = sizes.embed_dim;
  const auto parts = [&](std::vector<float>& q, std::vector<float>& k, std::vector<float>& v) {
    return std::vector<TensorPart>{
        {&q, 0, dim, 3 * dim}, {&k, dim, dim, 3 * dim}, {&v, 2 * dim, dim, 3 * dim}};
  };
  plan.wanted.push_back({.names = {name + ".weight"},
                         .shape = {3 * width, width},
                         .parts = parts(attention.wq, attention.wk, attention.wv),
                         .orientation = Orientation::kOutIn});
  if (!places.bias) return;
  plan.wanted.push_back({.names = {name + ".bias"},
                         .shape = {3 * width},
                         .parts = parts(attention.bq, attention.bk, attention.bv)});
}

TensorPlan NeoXPlan(const NeoXPlaces& places, const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(places.prefix, plan);
  if (places.prefix.empty()) plan.ignored_prefixes.emplace_back("embed_out.");
  plan.ignored_suffixes.emplace_back(".attention.bias");  // masks, as constant buffers
  plan.ignored_suffixes.emplace_back(".attention.masked_bias");
  const AttentionConfig& sizes = config.block.attention;
  const int64_t width = sizes.embed_dim;
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  WantTokenTable(places.table, {config.embedding->vocab_size, width}, weights.embedding.tokens, plan);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(places.prefix, "layers.", i, ".");
    BlockParameters& block = weights.layers[i];
    FeedForwardParameters& mlp = block.feed_forward;
    WantNorm(layer + "input_layernorm", width, true, block.attention_norm, plan);
    WantFusedHeads(places, layer + "attention.query_key_value", sizes, block.attention, plan);
    WantLinear(layer + "attention.dense", width, width, places.bias, block.attention.wo, block.attention.bo,
               plan);
    WantNorm(layer + "post_attention_layernorm", width, true, block.feed_forward_norm, plan);
    WantLinear(layer + "mlp.dense_h_to_4h", width, hidden, true, mlp.up, mlp.up_bias, plan);
    WantLinear(layer + "mlp.dense_4h_to_h", hidden, width, true, mlp.down, mlp.down_bias, plan);
  }
  WantNorm(places.prefix + "final_layer_norm", width, true, weights.final_norm, plan);
  return plan;
}

// The family's own names count; those of others, which transformers 4 wrote beside them, must say the same.
RopeConfig ReadNeoXRope(ConfigFields& fields, int64_t head_dim) {
  const RopeConfig rope = ReadHuggingFaceRope(
      fields, {.max_position_embeddings = fields.Int("max_position_embeddings", 1, kMaxDimension, 2048),
               .theta_key = "rotary_emb_base",
               .head_dim = head_dim,
               .part = 0.25,
               .part_key = "rotary_pct"});
  if (const std::optional<double> theta = fields.OptionalNumber("rope_theta");
      theta && *theta != rope.theta) {
    fields.Fail(Problem::kInvalid, "rope_theta",
                absl::StrCat("got ", *theta, ", and by rotary_emb_base it is ", rope.theta));
  }
  const int64_t dims = rope.rotary_dim == 0 ? head_dim : rope.rotary_dim;
  if (const std::optional<double> part = fields.OptionalNumber("partial_rotary_factor");
      part && std::trunc(*part * static_cast<double>(head_dim)) != static_cast<double>(dims)) {
    fields.Fail(
        Problem::kInvalid, "partial_rotary_factor",
        absl::StrCat("got ", *part, ", and by rotary_pct ", dims, " of ", head_dim, " dimensions turn"));
  }
  return rope;
}

}  // namespace

Format ReadGptNeoX(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  BlockConfig& block = config.block;
  AttentionConfig& attention = block.attention;
  attention.embed_dim = fields.Int("hidden_size", 1, kMaxDimension, 6144);
  attention.num_heads = fields.Int("num_attention_heads", 1, kMaxDimension, 64);
  const int64_t head_dim = attention.embed_dim / attention.num_heads;
  fields.Only("head_dim", {absl::StrCat(head_dim).c_str()});
  attention.rope = ReadNeoXRope(fields, head_dim);
  config.num_layers = fields.Int("num_hidden_layers", 1, kMaxLayers, 44);
  block.norm_placement =
      fields.Bool("use_parallel_residual", true) ? NormPlacement::kParallel : NormPlacement::kPre;
  block.norm_eps = fields.Number("layer_norm_eps", 1e-5);
  block.feed_forward.hidden_dim = fields.Int("intermediate_size", 1, kMaxDimension, 24576);
  block.feed_forward.activation = ReadHuggingFaceActivation(fields, "hidden_act", "gelu");
  config.final_norm = true;
  config.causal = true;
  RefuseNonCausal(fields);
  config.embedding = {.vocab_size = fields.Int("vocab_size", 1, kMaxDimension, 50432)};
  fields.WithoutEffect({"is_decoder", "attention_dropout", "hidden_dropout", "attention_probs_dropout_prob",
                        "hidden_dropout_prob"});
  NeoXPlaces places = {.bias = fields.Bool("attention_bias", true)};
  places.prefix = FindPrefix(checkpoint, "embed_in.weight", {"", "gpt_neox."});
  places.table =
      ReadTokenTable(fields, places.prefix + "embed_in.weight", "embed_out.weight", /*tied=*/false);
  format.plan = [places](const ModelConfig& resolved, ModelParameters& weights) {
    return NeoXPlan(places, resolved, weights);
  };
  const bool old_name = checkpoint.Find("embed_out.weight") != nullptr;
  AddDecoderHeads({.vocab = old_name ? "embed_out" : "lm_head", .tied = places.table.tied}, fields,
                  checkpoint, format);
  return format;
}

}  // namespace headlight
