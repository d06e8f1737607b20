// SPDX-License-Identifier: Apache-2.0
//
// Nomic's BERT (Nussbaum et al. 2024, arXiv:2402.01613): a post-norm encoder with rotary positions and gated
// feed-forward networks. transformers 5 has a class for it; the checkpoints are older, with code of their own
// and the keys of GPT-2, and transformers 5 keeps their names of tensors.
#include <algorithm>
#include <cmath>
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

using Problem = ConfigFields::Problem;

struct NomicPlan {
  std::string prefix;
  TokenTable table;
  bool old_names = false;
  bool attention_bias = false;
  bool up_bias = false;
  bool down_bias = false;
};

// Of the older names, in which attention and the gate are fused or numbered.
void WantOldNomicLayer(const std::string& layer, const NomicPlan& options, const ModelConfig& config,
                       BlockParameters& block, TensorPlan& plan) {
  const int64_t width = config.block.attention.embed_dim;
  const int64_t heads = config.block.attention.q_width();
  const FeedForwardConfig& sizes = config.block.feed_forward;
  AttentionParameters& attention = block.attention;
  FeedForwardParameters& mlp = block.feed_forward;
  WantFusedLinear(layer + "attn.Wqkv", width, options.attention_bias,
                  {{heads, &attention.wq, &attention.bq},
                   {heads, &attention.wk, &attention.bk},
                   {heads, &attention.wv, &attention.bv}},
                  plan);
  WantLinear(layer + "attn.out_proj", heads, width, options.attention_bias, attention.wo, attention.bo, plan);
  WantNorm(layer + "norm1", width, true, block.attention_norm, plan);
  const char* const up = sizes.gated ? "mlp.fc11" : "mlp.fc1";
  WantLinear(layer + up, width, sizes.hidden_dim, options.up_bias, mlp.up, mlp.up_bias, plan);
  if (sizes.gated) {
    WantLinear(layer + "mlp.fc12", width, sizes.hidden_dim, options.up_bias, mlp.gate, mlp.gate_bias, plan);
  }
  WantLinear(layer + "mlp.fc2", sizes.hidden_dim, width, options.down_bias, mlp.down, mlp.down_bias, plan);
  WantNorm(layer + "norm2", width, true, block.feed_forward_norm, plan);
}

TensorPlan PlanNomic(const NomicPlan& options, const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  const std::string& prefix = options.prefix;
  IgnoreHeadsAndBuffers(prefix, plan);
  const int64_t width = config.block.attention.embed_dim;
  if (options.old_names) {
    const EmbeddingConfig& sizes = *config.embedding;
    WantTokenTable(options.table, {sizes.vocab_size, width}, weights.embedding.tokens, plan);
    if (sizes.num_token_types > 0) {
      WantAsIs(prefix + "embeddings.token_type_embeddings.weight", {sizes.num_token_types, width},
               weights.embedding.token_types, plan);
    }
    WantNorm(prefix + "emb_ln", width, true, weights.embedding.norm, plan);
  } else {
    WantBertEmbedding(prefix, options.table, config, weights.embedding, plan);
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    BlockParameters& block = weights.layers[i];
    if (options.old_names) {
      WantOldNomicLayer(absl::StrCat(prefix, "encoder.layers.", i, "."), options, config, block, plan);
    } else {
      WantRotaryGatedLayer(absl::StrCat(prefix, "layers.", i, "."), /*attention_bias=*/false,
                           /*down_bias=*/false, config, block, plan);
    }
  }
  return plan;
}

// As the class of transformers 5 has it.
void ReadNewNomic(ConfigFields& fields, ModelConfig& config) {
  config = ReadBertSizes(fields, {.vocab_size = 30528, .activation = "silu"});
  config.block.feed_forward.gated = true;
  config.embedding->num_token_types = fields.Int("type_vocab_size", 1, kMaxDimension, 2);
  AttentionConfig& attention = config.block.attention;
  attention.head_dim = fields.Int("head_dim", 1, kMaxDimension,
                                  std::max<int64_t>(1, attention.embed_dim / attention.num_heads));
  attention.rope = ReadHuggingFaceRope(
      fields, {.max_position_embeddings = fields.Int("max_position_embeddings", 1, kMaxDimension, 2048),
               .theta = 1000.0});
  // The class never reads them.
  fields.WithoutEffect({"is_decoder", "is_causal"});
}

// "activation_function" of the older code: the name of a gated network or of GELU.
void ReadOldNomicActivation(ConfigFields& fields, FeedForwardConfig& network) {
  const std::string name = fields.String("activation_function");
  network.gated = name != "gelu";
  network.activation = name == "swiglu" ? Activation::kSilu : Activation::kGeluErf;
  // The class of transformers 5 has this one for the gate, if the config speaks to both.
  fields.Only("hidden_act", {name == "swiglu" ? "\"silu\"" : "\"gelu\""});
  if (name == "swiglu" || name == "geglu" || name == "gelu") return;
  fields.Fail(Problem::kUnimplemented, "activation_function",
              absl::StrCat("got ", Quoted(name), ", served are swiglu, geglu, gelu"));
}

void ReadOldNomicRope(ConfigFields& fields, AttentionConfig& attention) {
  // Versions of the code differ in what stands for keys that are absent; so they must be there.
  RopeConfig rope;
  rope.theta = fields.Number("rotary_emb_base");
  const double turned =
      fields.Number("rotary_emb_fraction") * static_cast<double>(attention.embed_dim / attention.num_heads);
  rope.rotary_dim = static_cast<int64_t>(std::llround(turned));
  if (turned < 2.0 || turned != static_cast<double>(rope.rotary_dim) || rope.rotary_dim % 2 != 0) {
    fields.Fail(
        Problem::kUnimplemented, "rotary_emb_fraction",
        absl::StrCat("got that of ", turned, " dimensions of a head, served is an even number of them"));
    rope.rotary_dim = 2;
  }
  // Beyond what it was trained with, a factor makes the base grow with the sequence.
  const double factor = fields.Number("rotary_scaling_factor", 0.0);
  const int64_t trained = fields.Int("max_trained_positions", 1, kMaxDimension, 2048);
  if (factor != 0.0) rope.max_len = trained;
  attention.rope = rope;
  if (fields.Has("rope_parameters") || fields.Has("rope_scaling") || fields.Has("rope_theta")) {
    const RopeConfig other =
        ReadHuggingFaceRope(fields, {.max_position_embeddings = trained, .theta = rope.theta});
    if (other != RopeConfig{.theta = rope.theta}) {
      fields.Fail(Problem::kInvalid, "rotary_emb_base",
                  "got it, and other rotary positions with the keys of transformers 5; wanted the same");
    }
  }
  fields.Only("rotary_emb_interleaved", {"false"});
  fields.Only("rotary_emb_scale_base", {"null"});
  fields.Only("rotary_head_dim", {"false"});
}

// Of the older code what is refused unless it changes nothing, and what changes nothing.
void AccountForOldNomicKeys(ConfigFields& fields) {
  for (const char* key : {"prenorm", "parallel_block", "parallel_block_tied_norm", "use_rms_norm", "causal",
                          "scale_attn_by_inverse_layer_idx", "last_layer_subset", "norm_mlp"}) {
    fields.Only(key, {"false"});
  }
  fields.Only("scale_attn_weights", {"true"});
  fields.Only("num_heads_kv", {"null"});
  // Mixtures of experts, and what says how they are made.
  fields.Only("moe_every_n_layers", {"0"});
  fields.WithoutEffect({"num_experts", "moe_top_k", "moe_normalize_expert_weights", "expert_choice_router",
                        "ffn_div", "moe_impl", "moe_resid_pdrop", "num_shared_experts",
                        "router_aux_loss_coef"});
  // Dropout, how it is run, tasks' heads, and GPT-2's own that the code never reads.
  fields.WithoutEffect({"attn_pdrop",
                        "embd_pdrop",
                        "resid_pdrop",
                        "attention_probs_dropout_prob",
                        "hidden_dropout_prob",
                        "dense_seq_output",
                        "fused_bias_fc",
                        "fused_dropout_add_ln",
                        "use_flash_attn",
                        "use_xentropy",
                        "reorder_and_upcast_attn",
                        "n_ctx",
                        "n_positions",
                        "max_position_embeddings",
                        "is_decoder",
                        "is_causal",
                        "summary_type",
                        "summary_use_proj",
                        "summary_activation",
                        "summary_proj_to_labels",
                        "summary_first_dropout"});
}

void ReadOldNomic(ConfigFields& fields, const Shards& checkpoint, ModelConfig& config, NomicPlan& options) {
  BlockConfig& block = config.block;
  const int64_t width = fields.Int(fields.EitherOf("n_embd", "hidden_size"), 1, kMaxDimension, 768);
  block.attention.embed_dim = width;
  block.attention.num_heads =
      fields.Int(fields.EitherOf("n_head", "num_attention_heads"), 1, kMaxDimension, 12);
  config.num_layers = fields.Int(fields.EitherOf("n_layer", "num_hidden_layers"), 1, kMaxLayers, 12);
  block.norm_placement = NormPlacement::kPost;
  block.norm_eps = fields.Number(fields.EitherOf("layer_norm_epsilon", "layer_norm_eps"), 1e-5);
  ReadOldNomicActivation(fields, block.feed_forward);
  int64_t hidden = fields.Int(fields.EitherOf("n_inner", "intermediate_size"), 1, kMaxDimension);
  // The code rounds the width of gated networks up; transformers 5 does not.
  const int64_t rounded = (hidden + 255) / 256 * 256;
  const SafetensorsEntry* const up = checkpoint.Find(options.prefix + "encoder.layers.0.mlp.fc11.weight");
  if (up != nullptr && !up->shape.empty() && up->shape.front() == rounded) hidden = rounded;
  block.feed_forward.hidden_dim = hidden;
  ReadOldNomicRope(fields, block.attention);
  // So does it with the number of tokens.
  const int64_t multiple = fields.Int("pad_vocab_size_multiple", 1, kMaxDimension, 1);
  const int64_t tokens = fields.Int("vocab_size", 1, kMaxDimension, 50257);
  config.embedding = {.vocab_size = (tokens + multiple - 1) / multiple * multiple,
                      .num_token_types = fields.Int("type_vocab_size", 0, kMaxDimension, 2),
                      .norm = true};
  options.attention_bias = fields.Bool("qkv_proj_bias", true);
  options.up_bias = fields.Bool("mlp_fc1_bias", true);
  options.down_bias = fields.Bool("mlp_fc2_bias", true);
  AccountForOldNomicKeys(fields);
}

}  // namespace

Format ReadNomicBert(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  NomicPlan options;
  options.prefix = FindPrefix(checkpoint, kBertTokenTable, {"", "nomic_bert.", "bert."});
  if (fields.Has("n_embd") || fields.Has("n_layer") || fields.Has("n_inner")) {
    ReadOldNomic(fields, checkpoint, format.config, options);
    options.old_names = true;
    format.knows_code = CodeIsOf(fields, "NomicBert");
  } else {
    ReadNewNomic(fields, format.config);
    options.old_names = checkpoint.Find(options.prefix + "emb_ln.weight") != nullptr;
  }
  options.table = ReadTokenTable(fields, options.prefix + kBertTokenTable, "cls.predictions.decoder.weight",
                                 /*tied=*/true);
  format.plan = [options](const ModelConfig& resolved, ModelParameters& weights) {
    return PlanNomic(options, resolved, weights);
  };
  AddClassifiers({HeadDense(options.prefix + "pooler.dense", RowActivation::kTanh)}, fields, checkpoint,
                 format);
  MaskedLmNames lm = kBertLm;
  lm.norm = "layer_norm";
  AddMaskedLm(lm, ToRowActivation(format.config.block.feed_forward.activation), options.table.tied, fields,
              checkpoint, format);
  return format;
}

}  // namespace headlight
