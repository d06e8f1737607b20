// SPDX-License-Identifier: Apache-2.0
//
// state_dict()s of torch.nn.MultiheadAttention, TransformerEncoderLayer and TransformerEncoder. Widths come
// from the tensors' shapes, the rest from our own config.json: what tensors cannot tell is asked for.
#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/native_config.h"

namespace headlight {
namespace {

// What the names and shapes of one layer's attention tell.
struct AttentionShape {
  int64_t embed_dim = 0;
  int64_t kdim = 0;
  int64_t vdim = 0;
  bool packed = false;  // one matrix for queries, keys and values
  bool bias = false;
  bool bias_kv = false;
};

struct EncoderShape {
  AttentionShape attention;
  bool stack = false;  // names begin with "layers.N."
  int64_t num_layers = 1;
  int64_t hidden_dim = 0;
  bool final_norm = false;
  bool final_norm_bias = false;  // the caller of TransformerEncoder makes that norm: its options are its own
};

// One dimension of a matrix, if there is a matrix of that name.
std::optional<int64_t> Dimension(const Shards& checkpoint, const std::string& name, size_t dimension) {
  const SafetensorsEntry* entry = checkpoint.Find(name);
  if (entry == nullptr || entry->shape.size() != 2) return std::nullopt;
  return entry->shape[dimension];
}

bool Has(const Shards& checkpoint, const std::string& name) { return checkpoint.Find(name) != nullptr; }

// "prefix" of config.json, which may leave out the final dot, and may have what is taken off all names.
std::string ReadPrefix(ConfigFields& fields, const Shards& checkpoint) {
  std::string prefix = fields.String("prefix", "");
  if (!prefix.empty() && !absl::EndsWith(prefix, ".")) prefix += ".";
  if (absl::StartsWith(prefix, checkpoint.wrapper())) prefix.erase(0, checkpoint.wrapper().size());
  return prefix;
}

std::optional<AttentionShape> InspectAttention(const Shards& checkpoint, const std::string& prefix,
                                               ConfigFields& fields) {
  AttentionShape shape;
  shape.packed = !Has(checkpoint, prefix + "q_proj_weight");
  std::optional<int64_t> width =
      Dimension(checkpoint, prefix + (shape.packed ? "in_proj_weight" : "q_proj_weight"), 1);
  if (!width) width = Dimension(checkpoint, prefix + "out_proj.weight", 0);
  if (!width) {
    const std::string first = checkpoint.entries().empty() ? "none" : checkpoint.entries().begin()->first;
    fields.Fail(ConfigFields::Problem::kInvalid, "layout",
                absl::StrCat("the checkpoint has no matrix ", prefix, "in_proj_weight, ", prefix,
                             "q_proj_weight or ", prefix, "out_proj.weight; its first tensor is ", first,
                             "; \"prefix\" tells what stands before the names"));
    return std::nullopt;
  }
  shape.embed_dim = *width;
  shape.kdim = Dimension(checkpoint, prefix + "k_proj_weight", 1).value_or(*width);
  shape.vdim = Dimension(checkpoint, prefix + "v_proj_weight", 1).value_or(*width);
  shape.bias = Has(checkpoint, prefix + "in_proj_bias") || Has(checkpoint, prefix + "out_proj.bias");
  shape.bias_kv = Has(checkpoint, prefix + "bias_k") || Has(checkpoint, prefix + "bias_v");
  return shape;
}

void WantAttention(const std::string& prefix, const AttentionShape& shape, AttentionParameters& weights,
                   TensorPlan& plan) {
  const int64_t width = shape.embed_dim;
  if (shape.packed) {
    plan.wanted.push_back(
        {.names = {prefix + "in_proj_weight"},
         .shape = {3 * width, width},
         .parts = {{&weights.wq, 0, width}, {&weights.wk, width, width}, {&weights.wv, 2 * width, width}},
         .orientation = Orientation::kOutIn});
  } else {
    const auto want = [&](const char* name, int64_t in, std::vector<float>& weight) {
      plan.wanted.push_back({.names = {prefix + name},
                             .shape = {width, in},
                             .parts = {{&weight}},
                             .orientation = Orientation::kOutIn});
    };
    want("q_proj_weight", width, weights.wq);
    want("k_proj_weight", shape.kdim, weights.wk);
    want("v_proj_weight", shape.vdim, weights.wv);
  }
  if (shape.bias) {
    plan.wanted.push_back(
        {.names = {prefix + "in_proj_bias"},
         .shape = {3 * width},
         .parts = {{&weights.bq, 0, width}, {&weights.bk, width, width}, {&weights.bv, 2 * width, width}}});
  }
  if (shape.bias_kv) {
    WantAsIs(prefix + "bias_k", {1, 1, width}, weights.bias_k, plan);
    WantAsIs(prefix + "bias_v", {1, 1, width}, weights.bias_v, plan);
  }
  WantLinear(prefix + "out_proj", width, width, shape.bias, weights.wo, weights.bo, plan);
}

// The number of layers that the names "<prefix>layers.N." speak of; 0 without such names.
int64_t CountLayers(const Shards& checkpoint, const std::string& prefix) {
  const std::string layers = prefix + "layers.";
  int64_t count = 0;
  for (const auto& [name, entry] : checkpoint.entries()) {
    if (!absl::StartsWith(name, layers)) continue;
    const size_t dot = name.find('.', layers.size());
    int64_t index = 0;
    const std::string digits = name.substr(layers.size(), dot - layers.size());
    if (dot == std::string::npos || digits.size() > 9 || !absl::SimpleAtoi(digits, &index)) continue;
    count = std::max(count, index + 1);
  }
  return count;
}

TensorPlan EncoderPlan(const std::string& prefix, const EncoderShape& shape, ModelParameters& weights) {
  TensorPlan plan;
  plan.prefix = prefix;
  const int64_t width = shape.attention.embed_dim;
  const bool bias = shape.attention.bias;
  for (int64_t i = 0; i < shape.num_layers; ++i) {
    const std::string layer = shape.stack ? absl::StrCat(prefix, "layers.", i, ".") : prefix;
    BlockParameters& block = weights.layers[i];
    FeedForwardParameters& feed_forward = block.feed_forward;
    WantAttention(layer + "self_attn.", shape.attention, block.attention, plan);
    WantNorm(layer + "norm1", width, bias, block.attention_norm, plan);
    WantLinear(layer + "linear1", width, shape.hidden_dim, bias, feed_forward.up, feed_forward.up_bias, plan);
    WantLinear(layer + "linear2", shape.hidden_dim, width, bias, feed_forward.down, feed_forward.down_bias,
               plan);
    WantNorm(layer + "norm2", width, bias, block.feed_forward_norm, plan);
  }
  return plan;
}

// What tensors do not tell, and a wrong guess would not show.
void AskFor(ConfigFields& fields, const std::string& key, const std::string& what) {
  if (fields.Has(key)) return;
  fields.Fail(ConfigFields::Problem::kInvalid, key, "missing: the tensors do not tell it; wanted " + what);
}

// The norm after the last layer is a module that the caller made: of any kind, with an eps of its own. One
// that has a bias is no RMSNorm.
void ReadFinalNorm(ConfigFields& fields, const EncoderShape& shape, ModelConfig& config) {
  config.final_norm = shape.final_norm;
  if (!shape.final_norm) return;
  if (!shape.final_norm_bias) {
    AskFor(fields, "final_norm_kind", "\"layer_norm\" or \"rms_norm\", as the module that was given as norm");
  }
  AskFor(fields, "final_norm_eps",
         "that of the module that was given as norm; PyTorch's own defaults are 1e-5 for LayerNorm and "
         "1.1920929e-7 for RMSNorm");
  config.final_norm_kind = ReadNormKind(fields, "final_norm_kind");
  config.final_norm_eps = fields.Number("final_norm_eps", 1e-5);
  if (shape.final_norm_bias && config.final_norm_kind == NormKind::kRmsNorm) {
    fields.Fail(ConfigFields::Problem::kInvalid, "final_norm_kind",
                "got \"rms_norm\", and the norm has a bias, which RMSNorm has not");
  }
}

void ApplyShape(const AttentionShape& shape, AttentionConfig& attention) {
  attention.embed_dim = shape.embed_dim;
  attention.kdim = shape.kdim;
  attention.vdim = shape.vdim;
  attention.add_bias_kv = shape.bias_kv;
}

}  // namespace

Format ReadTorchAttention(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  AttentionConfig& attention = format.config.block.attention;
  const std::string prefix = ReadPrefix(fields, checkpoint);
  ReadAttentionOptions(fields, attention);
  attention.add_zero_attn = fields.Bool("add_zero_attn", false);
  ReadModelOptions(fields, format.config);
  format.precision = ReadPrecision(fields);
  format.parameters_precision = ReadPrecision(fields, "parameters_precision");
  fields.FailUnknownKeys();
  const std::optional<AttentionShape> shape = InspectAttention(checkpoint, prefix, fields);
  if (!shape) return format;
  ApplyShape(*shape, attention);
  format.plan = [prefix, shape = *shape](const ModelConfig&, ModelParameters& weights) {
    TensorPlan plan;
    plan.prefix = prefix;
    WantAttention(prefix, shape, weights.layers[0].attention, plan);
    return plan;
  };
  return format;
}

Format ReadTorchEncoder(ConfigFields& fields, const Shards& checkpoint) {
  Format format;
  ModelConfig& config = format.config;
  BlockConfig& block = config.block;
  const std::string prefix = ReadPrefix(fields, checkpoint);
  ReadAttentionOptions(fields, block.attention);
  ReadModelOptions(fields, config);
  format.precision = ReadPrecision(fields);
  format.parameters_precision = ReadPrecision(fields, "parameters_precision");
  AskFor(fields, "norm_first", "the argument of the layers, false or true; PyTorch's own default is false");
  AskFor(fields, "activation", "that of the layers; PyTorch's own default is \"relu\"");
  AskFor(fields, "layer_norm_eps", "the argument of the layers; PyTorch's own default is 1e-5");
  block.norm_placement = fields.Bool("norm_first", false) ? NormPlacement::kPre : NormPlacement::kPost;
  block.norm_eps = fields.Number("layer_norm_eps", 1e-5);
  block.feed_forward.activation = ReadActivation(fields, Activation::kRelu);

  EncoderShape shape;
  const int64_t layers = CountLayers(checkpoint, prefix);
  if (layers > kMaxLayers) {
    fields.Fail(ConfigFields::Problem::kInvalid, "layout",
                absl::StrCat("the checkpoint has names of layer ", layers - 1, ", served are ", kMaxLayers,
                             " layers"));
    return format;
  }
  shape.stack = layers > 0;
  shape.num_layers = std::max<int64_t>(layers, 1);
  const std::string first = shape.stack ? prefix + "layers.0." : prefix;
  const auto attention = InspectAttention(checkpoint, first + "self_attn.", fields);
  if (!attention) return format;
  shape.attention = *attention;
  shape.hidden_dim = Dimension(checkpoint, first + "linear1.weight", 0).value_or(0);
  if (shape.hidden_dim == 0) {
    fields.Fail(ConfigFields::Problem::kInvalid, "layout",
                absl::StrCat("the checkpoint has no matrix ", first, "linear1.weight"));
  }
  shape.final_norm = shape.stack && Has(checkpoint, prefix + "norm.weight");
  shape.final_norm_bias = Has(checkpoint, prefix + "norm.bias");
  ReadFinalNorm(fields, shape, config);
  fields.FailUnknownKeys();
  ApplyShape(shape.attention, block.attention);
  block.feed_forward.hidden_dim = shape.hidden_dim;
  config.num_layers = shape.num_layers;
  format.plan = [prefix, shape](const ModelConfig& resolved, ModelParameters& weights) {
    TensorPlan plan = EncoderPlan(prefix, shape, weights);
    if (resolved.final_norm) {
      WantNorm(prefix + "norm", shape.attention.embed_dim, shape.final_norm_bias, weights.final_norm, plan);
    }
    return plan;
  };
  return format;
}

}  // namespace headlight
