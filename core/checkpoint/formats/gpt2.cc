// SPDX-License-Identifier: Apache-2.0
//
// GPT-2 (Radford et al. 2019) as transformers saves it: a pre-norm, causal stack whose Conv1D modules keep
// their matrices [in, out].
#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/heads.h"
#include "core/checkpoint/formats/huggingface.h"

namespace headlight {
namespace {

void WantConv1D(const std::string& name, int64_t in, int64_t out, std::vector<float>& weight,
                std::vector<float>& bias, TensorPlan& plan) {
  WantAsIs(name + ".weight", {in, out}, weight, plan);
  WantAsIs(name + ".bias", {out}, bias, plan);
}

// Queries, keys and values side by side in one matrix.
void WantPackedProjections(const std::string& name, int64_t width, AttentionParameters& attention,
                           TensorPlan& plan) {
  plan.wanted.push_back(
      {.names = {name + ".weight"},
       .shape = {width, 3 * width},
       .parts = {
           {&attention.wq, 0, width}, {&attention.wk, width, width}, {&attention.wv, 2 * width, width}}});
  plan.wanted.push_back(
      {.names = {name + ".bias"},
       .shape = {3 * width},
       .parts = {
           {&attention.bq, 0, width}, {&attention.bk, width, width}, {&attention.bv, 2 * width, width}}});
}

TensorPlan Plan(const std::string& prefix, const TokenTable& table, const ModelConfig& config,
                ModelParameters& weights) {
  TensorPlan plan;
  IgnoreHeadsAndBuffers(prefix, plan);
  const EmbeddingConfig& sizes = *config.embedding;
  const int64_t width = config.block.attention.embed_dim;
  const int64_t hidden = config.block.feed_forward.hidden_dim;
  WantTokenTable(table, {sizes.vocab_size, width}, weights.embedding.tokens, plan);
  WantAsIs(prefix + "wpe.weight", {sizes.num_positions, width}, weights.embedding.positions, plan);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = absl::StrCat(prefix, "h.", i, ".");
    BlockParameters& block = weights.layers[i];
    WantNorm(layer + "ln_1", width, true, block.attention_norm, plan);
    WantPackedProjections(layer + "attn.c_attn", width, block.attention, plan);
    WantConv1D(layer + "attn.c_proj", width, width, block.attention.wo, block.attention.bo, plan);
    WantNorm(layer + "ln_2", width, true, block.feed_forward_norm, plan);
    FeedForwardParameters& feed_forward = block.feed_forward;
    WantConv1D(layer + "mlp.c_fc", width, hidden, feed_forward.up, feed_forward.up_bias, plan);
    WantConv1D(layer + "mlp.c_proj", hidden, width, feed_forward.down, feed_forward.down_bias, plan);
  }
  WantNorm(prefix + "ln_f", width, true, weights.final_norm, plan);
  return plan;
}

}  // namespace

Format ReadGpt2(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  BlockConfig& block = config.block;
  const int64_t width = fields.Int(fields.EitherOf("n_embd", "hidden_size"), 1, kMaxDimension, 768);
  block.attention.embed_dim = width;
  block.attention.num_heads =
      fields.Int(fields.EitherOf("n_head", "num_attention_heads"), 1, kMaxDimension, 12);
  if (!fields.Bool("scale_attn_weights", true)) block.attention.scale = 1.0;
  config.scale_by_inverse_layer = fields.Bool("scale_attn_by_inverse_layer_idx", false);
  config.num_layers = fields.Int(fields.EitherOf("n_layer", "num_hidden_layers"), 1, kMaxLayers, 12);
  block.norm_placement = NormPlacement::kPre;
  block.norm_eps = fields.Number("layer_norm_epsilon", 1e-5);
  block.feed_forward.hidden_dim = fields.Int("n_inner", 1, kMaxDimension, 4 * width);
  block.feed_forward.activation = ReadHuggingFaceActivation(fields, "activation_function", "gelu_new");
  config.final_norm = true;
  config.causal = true;
  RefuseNonCausal(fields);
  // Before 2021 some configs said n_ctx only.
  const std::string positions = fields.EitherOf("n_positions", "max_position_embeddings");
  const int64_t num_positions = fields.Int(fields.EitherOf(positions, "n_ctx"), 1, kMaxDimension, 1024);
  config.embedding = {.vocab_size = fields.Int("vocab_size", 1, kMaxDimension, 50257),
                      .num_positions = num_positions};
  // Where scores are scaled, before or after the product, is the same in f32; "summary" is a task's head.
  fields.WithoutEffect({"reorder_and_upcast_attn", "is_decoder", "resid_pdrop", "embd_pdrop", "attn_pdrop",
                        "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
                        "summary_first_dropout"});
  const std::string prefix = FindPrefix(checkpoint, "wte.weight", {"", "transformer."});
  const TokenTable table = ReadTokenTable(fields, prefix + "wte.weight", "lm_head.weight", /*tied=*/true);
  format.plan = [prefix, table](const ModelConfig& resolved, ModelParameters& weights) {
    return Plan(prefix, table, resolved, weights);
  };
  AddDecoderHeads({.task = "LMHeadModel", .tied = table.tied}, fields, checkpoint, format);
  return format;
}

}  // namespace headlight
