// SPDX-License-Identifier: Apache-2.0
//
// Our own format: names as in ModelParameters, matrices [in, out].
#include "core/checkpoint/formats/native.h"

#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/native_config.h"

namespace headlight {
namespace {

// Whether a tensor may be absent: biases of zero are not stored.
enum class Presence { kRequired, kOptional };

// Calls visit(name, shape, presence, tensor) for each tensor of a model; `Weights` may be const.
template <typename Weights, typename Visit>
void VisitTensors(const ModelConfig& config, Weights& weights, const Visit& visit) {
  constexpr Presence kRequired = Presence::kRequired;
  constexpr Presence kOptional = Presence::kOptional;
  const int64_t width = config.block.attention.embed_dim;
  const auto visit_norm = [&](const std::string& name, int64_t cols, auto& norm) {
    visit(name + ".gain", Shape{cols}, kRequired, norm.gain);
    visit(name + ".bias", Shape{cols}, kOptional, norm.bias);
  };
  if (config.embedding) {
    const EmbeddingConfig& sizes = *config.embedding;
    auto& embedding = weights.embedding;
    visit("embedding.tokens", Shape{sizes.vocab_size, sizes.dim}, kRequired, embedding.tokens);
    if (sizes.num_positions > 0) {
      visit("embedding.positions", Shape{sizes.num_positions, sizes.dim}, kRequired, embedding.positions);
    }
    if (sizes.num_token_types > 0) {
      visit("embedding.token_types", Shape{sizes.num_token_types, sizes.dim}, kRequired,
            embedding.token_types);
    }
    if (sizes.norm) visit_norm("embedding.norm", sizes.dim, embedding.norm);
    if (sizes.projected) {
      visit("embedding.projection", Shape{sizes.dim, width}, kRequired, embedding.projection);
      visit("embedding.projection_bias", Shape{width}, kOptional, embedding.projection_bias);
    }
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (config.ParametersOf(i) != i) continue;
    auto& layer = weights.layers[i];
    const BlockConfig& block = config.LayerBlock(i);
    const AttentionConfig& attention = block.attention;
    const std::string prefix = absl::StrCat("layers.", i, ".");
    const int64_t q_width = attention.q_width();
    const int64_t kv_width = attention.kv_width();
    visit(prefix + "attention.wq", Shape{width, q_width}, kRequired, layer.attention.wq);
    visit(prefix + "attention.wk", Shape{attention.kdim, kv_width}, kRequired, layer.attention.wk);
    visit(prefix + "attention.wv", Shape{attention.vdim, kv_width}, kRequired, layer.attention.wv);
    visit(prefix + "attention.wo", Shape{q_width, width}, kRequired, layer.attention.wo);
    visit(prefix + "attention.bq", Shape{q_width}, kOptional, layer.attention.bq);
    visit(prefix + "attention.bk", Shape{kv_width}, kOptional, layer.attention.bk);
    visit(prefix + "attention.bv", Shape{kv_width}, kOptional, layer.attention.bv);
    visit(prefix + "attention.bo", Shape{width}, kOptional, layer.attention.bo);
    if (attention.add_bias_kv) {
      visit(prefix + "attention.bias_k", Shape{kv_width}, kRequired, layer.attention.bias_k);
      visit(prefix + "attention.bias_v", Shape{kv_width}, kRequired, layer.attention.bias_v);
    }
    if (block.norm_placement == NormPlacement::kNone) continue;
    const int64_t hidden = block.feed_forward.hidden_dim;
    auto& feed_forward = layer.feed_forward;
    if (block.attention_norm) visit_norm(prefix + "attention_norm", width, layer.attention_norm);
    visit_norm(prefix + "feed_forward_norm", width, layer.feed_forward_norm);
    if (block.norm_placement == NormPlacement::kSandwich) {
      visit_norm(prefix + "attention_output_norm", width, layer.attention_output_norm);
      visit_norm(prefix + "feed_forward_output_norm", width, layer.feed_forward_output_norm);
    }
    visit(prefix + "feed_forward.up", Shape{width, hidden}, kRequired, feed_forward.up);
    visit(prefix + "feed_forward.up_bias", Shape{hidden}, kOptional, feed_forward.up_bias);
    if (block.feed_forward.gated) {
      visit(prefix + "feed_forward.gate", Shape{width, hidden}, kRequired, feed_forward.gate);
      visit(prefix + "feed_forward.gate_bias", Shape{hidden}, kOptional, feed_forward.gate_bias);
    }
    visit(prefix + "feed_forward.down", Shape{hidden, width}, kRequired, feed_forward.down);
    visit(prefix + "feed_forward.down_bias", Shape{width}, kOptional, feed_forward.down_bias);
  }
  if (config.final_norm) visit_norm("final_norm", width, weights.final_norm);
}

TensorPlan NativePlan(const ModelConfig& config, ModelParameters& weights) {
  TensorPlan plan;
  VisitTensors(
      config, weights,
      [&](const std::string& name, const Shape& shape, Presence presence, std::vector<float>& tensor) {
        plan.wanted.push_back({.names = {name},
                               .shape = shape,
                               .parts = {{&tensor}},
                               .optional = presence == Presence::kOptional});
      });
  return plan;
}

}  // namespace

Format ReadNative(ConfigFields& fields, const Shards& /*checkpoint*/) {
  Format format;
  format.config = ReadNativeConfig(fields);
  format.precision = ReadPrecision(fields);
  format.parameters_precision = ReadPrecision(fields, "parameters_precision");
  format.plan = NativePlan;
  fields.FailUnknownKeys();
  return format;
}

std::map<std::string, TensorToWrite> NativeTensors(const ModelConfig& config,
                                                   const ModelParameters& weights) {
  std::map<std::string, TensorToWrite> tensors;
  VisitTensors(config, weights,
               [&](const std::string& name, const Shape& shape, Presence, const std::vector<float>& tensor) {
                 if (!tensor.empty()) tensors[name] = {.shape = shape, .data = tensor.data()};
               });
  return tensors;
}

}  // namespace headlight
