// SPDX-License-Identifier: Apache-2.0
#include "core/model/config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/check_range.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// Several times the largest published models, and small enough that no size computed from a valid config can
// overflow.
constexpr int64_t kMaxHiddenDim = 1 << 20;
constexpr int64_t kMaxRows = int64_t{1} << 26;  // of an embedding table
constexpr double kMaxTokenScale = 1e6;
constexpr double kMaxNormEps = 1.0;
constexpr int64_t kMaxPoolings = 16;  // side by side

absl::Status Prefixed(const std::string& prefix, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(prefix, std::string(status.message())));
}

absl::Status CheckEps(const char* field, double eps) {
  if (eps >= 0.0 && eps <= kMaxNormEps) return absl::OkStatus();  // which NaN is not
  return absl::InvalidArgumentError(absl::StrCat(field, ": got ", eps, ", wanted 0..", kMaxNormEps));
}

absl::Status CheckEmbedding(const EmbeddingConfig& embedding, int64_t embed_dim) {
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("embedding.vocab_size", embedding.vocab_size, 1, kMaxRows));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("embedding.num_positions", embedding.num_positions, 0, kMaxRows));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("embedding.num_token_types", embedding.num_token_types, 0, kMaxRows));
  const int64_t dim = embedding.dim == 0 ? embed_dim : embedding.dim;
  if (embedding.projected || dim != embed_dim) {
    HEADLIGHT_RETURN_IF_ERROR(CheckRange("embedding.dim", dim, 1, EmbeddingConfig::kMaxDim));
  }
  if (!(std::abs(embedding.scale) <= kMaxTokenScale)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "embedding.scale: got ", embedding.scale, ", wanted a number of magnitude at most ", kMaxTokenScale));
  }
  if (embedding.num_positions == 0) {
    if (embedding.position_offset == 0 && !embedding.padding_id) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "embedding.num_positions: got 0, wanted at least 1 with position_offset or padding_id");
  }
  HEADLIGHT_RETURN_IF_ERROR(
      CheckRange("embedding.position_offset", embedding.position_offset, 0, embedding.num_positions - 1));
  if (!embedding.padding_id) return absl::OkStatus();
  return CheckRange("embedding.padding_id", *embedding.padding_id, 0, embedding.num_positions - 1);
}

absl::Status CheckBlock(const BlockConfig& block, bool stacked) {
  const AttentionConfig& attention = block.attention;
  HEADLIGHT_RETURN_IF_ERROR(Prefixed("attention.", attention.Validate()));
  if (stacked) {
    for (const auto& [field, width] :
         {std::pair("kdim", attention.kdim), std::pair("vdim", attention.vdim)}) {
      if (width == 0 || width == attention.embed_dim) continue;
      return absl::InvalidArgumentError(absl::StrCat("attention.", field, ": got ", width,
                                                     ", wanted embed_dim ", attention.embed_dim,
                                                     " (only a single bare attention layer may differ)"));
    }
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckEps("norm_eps", block.norm_eps));
  if (!block.attention_norm && block.norm_placement != NormPlacement::kPre) {
    return absl::InvalidArgumentError("attention_norm: got false, wanted true unless norm_placement is pre");
  }
  if (block.norm_placement == NormPlacement::kNone) return absl::OkStatus();
  return CheckRange("feed_forward.hidden_dim", block.feed_forward.hidden_dim, 1, kMaxHiddenDim);
}

// That `block` has in common with the first one what all layers must. Both are valid.
absl::Status CheckAgreement(const BlockConfig& block, const BlockConfig& first) {
  const AttentionConfig got = block.attention.Resolved();
  const AttentionConfig wanted = first.attention.Resolved();
  const auto refuse = [](const char* field, const auto& got, const auto& wanted) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": got ", got, ", wanted ", wanted, ", as block has it"));
  };
  if (got.embed_dim != wanted.embed_dim) {
    return refuse("attention.embed_dim", got.embed_dim, wanted.embed_dim);
  }
  if (got.kdim != wanted.kdim) return refuse("attention.kdim", got.kdim, wanted.kdim);
  if (got.vdim != wanted.vdim) return refuse("attention.vdim", got.vdim, wanted.vdim);
  if (got.add_bias_kv != wanted.add_bias_kv) {
    return refuse("attention.add_bias_kv", got.add_bias_kv, wanted.add_bias_kv);
  }
  if (got.add_zero_attn != wanted.add_zero_attn) {
    return refuse("attention.add_zero_attn", got.add_zero_attn, wanted.add_zero_attn);
  }
  if (got.precision != wanted.precision) {
    return refuse("attention.precision", Name(got.precision), Name(wanted.precision));
  }
  if (got.parameters_precision != wanted.parameters_precision) {
    return refuse("attention.parameters_precision", Name(got.parameters_precision),
                  Name(wanted.parameters_precision));
  }
  if (block.norm_placement == first.norm_placement) return absl::OkStatus();
  return refuse("norm_placement", Name(block.norm_placement), Name(first.norm_placement));
}

absl::Status CheckLayerBlocks(const std::vector<int32_t>& layer_blocks, int64_t num_layers,
                              int64_t num_others) {
  if (layer_blocks.empty()) return absl::OkStatus();
  if (std::ssize(layer_blocks) != num_layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer_blocks: got ", layer_blocks.size(), ", wanted num_layers ", num_layers));
  }
  for (size_t i = 0; i < layer_blocks.size(); ++i) {
    HEADLIGHT_RETURN_IF_ERROR(
        CheckRange(absl::StrCat("layer_blocks[", i, "]"), layer_blocks[i], 0, num_others));
  }
  return absl::OkStatus();
}

absl::Status CheckLayerParameters(const ModelConfig& config) {
  const std::vector<int32_t>& owners = config.layer_parameters;
  if (owners.empty()) return absl::OkStatus();
  if (std::ssize(owners) != config.num_layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer_parameters: got ", owners.size(), ", wanted num_layers ", config.num_layers));
  }
  if (config.scale_by_inverse_layer) {
    return absl::InvalidArgumentError("layer_parameters: got some, wanted none with scale_by_inverse_layer");
  }
  for (int32_t i = 0; i < std::ssize(owners); ++i) {
    const std::string field = absl::StrCat("layer_parameters[", i, "]");
    HEADLIGHT_RETURN_IF_ERROR(CheckRange(field, owners[i], 0, i));
    if (owners[owners[i]] != owners[i]) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ": got ", owners[i], ", wanted a layer with parameters of its own"));
    }
    if (!config.layer_blocks.empty() && config.layer_blocks[i] != config.layer_blocks[owners[i]]) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, ": got ", owners[i], ", wanted a layer of the same block"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

const char* Name(NormPlacement placement) {
  switch (placement) {
    case NormPlacement::kNone:
      return "none";
    case NormPlacement::kPost:
      return "post";
    case NormPlacement::kPre:
      return "pre";
    case NormPlacement::kSandwich:
      return "sandwich";
    case NormPlacement::kBranch:
      return "branch";
    case NormPlacement::kParallel:
      return "parallel";
  }
  return "";
}

absl::Status ModelConfig::Validate() const {
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("num_layers", num_layers, 1, kMaxLayers));
  const bool stacked = num_layers > 1 || block.norm_placement != NormPlacement::kNone || embedding;
  HEADLIGHT_RETURN_IF_ERROR(CheckBlock(block, stacked));
  const int64_t num_others = std::ssize(other_blocks);
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("other_blocks", num_others, 0, kMaxLayers));
  for (int64_t i = 0; i < num_others; ++i) {
    const std::string prefix = absl::StrCat("other_blocks[", i, "].");
    HEADLIGHT_RETURN_IF_ERROR(Prefixed(prefix, CheckBlock(other_blocks[i], stacked)));
    HEADLIGHT_RETURN_IF_ERROR(Prefixed(prefix, CheckAgreement(other_blocks[i], block)));
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckLayerBlocks(layer_blocks, num_layers, num_others));
  HEADLIGHT_RETURN_IF_ERROR(CheckLayerParameters(*this));
  if (embedding) HEADLIGHT_RETURN_IF_ERROR(CheckEmbedding(*embedding, block.attention.embed_dim));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("pooling", std::ssize(pooling), 0, kMaxPoolings));
  // Without a pooling nothing passes through the steps, however wide.
  HEADLIGHT_RETURN_IF_ERROR(pooling.empty() ? absl::OkStatus()
                                            : CheckSteps("pooled_steps", pooled_steps, raw_pooled_dim()));
  const int64_t embed_dim = block.attention.embed_dim;
  HEADLIGHT_RETURN_IF_ERROR(heads.Validate(embed_dim, embedding ? embedding->vocab_size : 0,
                                           embedding && embedding->dim > 0 ? embedding->dim : embed_dim));
  return final_norm_eps ? CheckEps("final_norm_eps", *final_norm_eps) : absl::OkStatus();
}

ModelConfig ModelConfig::Resolved() const {
  ModelConfig resolved = *this;
  resolved.block.attention = block.attention.Resolved();
  for (BlockConfig& other : resolved.other_blocks) other.attention = other.attention.Resolved();
  if (resolved.embedding) {
    const int64_t embed_dim = block.attention.embed_dim;
    if (resolved.embedding->dim == 0) resolved.embedding->dim = embed_dim;
    if (resolved.embedding->dim != embed_dim) resolved.embedding->projected = true;
    for (const RopeConfig& rope : RopeConfigs()) {
      if (rope.max_len > 0)
        resolved.embedding->max_turned_len = std::min(embedding->max_turned_len, rope.max_len);
    }
  }
  resolved.final_norm_kind = final_norm_kind.value_or(block.norm_kind);
  resolved.final_norm_eps = final_norm_eps.value_or(block.norm_eps);
  return resolved;
}

int64_t ModelConfig::LargestDepth() const {
  int64_t depth = 0;
  ForEachBlock([&](const BlockConfig& of, int64_t) {
    const int64_t hidden_dim = of.norm_placement == NormPlacement::kNone ? 0 : of.feed_forward.hidden_dim;
    depth = std::max({depth, of.attention.LargestDepth(), hidden_dim});
  });
  return depth;
}

int64_t ModelConfig::raw_pooled_dim() const { return std::ssize(pooling) * block.attention.embed_dim; }

bool ModelConfig::Gives(OutputKind kind) const {
  if (kind == OutputKind::kHiddenStates) return true;
  return kind == OutputKind::kPooled ? !pooling.empty() : heads.Find(kind) != nullptr;
}

int64_t ModelConfig::OutputWidth(OutputKind kind) const {
  const int64_t embed_dim = block.attention.embed_dim;
  if (kind == OutputKind::kHiddenStates) return embed_dim;
  if (kind == OutputKind::kPooled) return pooled_dim();
  return heads.Width(kind, embed_dim, embedding ? embedding->vocab_size : 0);
}

const BlockConfig& ModelConfig::LayerBlock(int64_t layer) const {
  const int32_t index = layer_blocks.empty() ? 0 : layer_blocks[layer];
  return index == 0 ? block : other_blocks[index - 1];
}

AttentionConfig ModelConfig::LayerAttention(int64_t layer) const {
  AttentionConfig attention = LayerBlock(layer).attention;
  if (scale_by_inverse_layer) attention.scale = *attention.scale / static_cast<double>(layer + 1);
  return attention;
}

void ModelConfig::ForEachBlock(absl::FunctionRef<void(const BlockConfig&, int64_t)> visit) const {
  for (int32_t i = 0; i <= std::ssize(other_blocks); ++i) {
    int64_t layers = 0;
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      const int32_t block_of_layer = layer_blocks.empty() ? 0 : layer_blocks[layer];
      if (block_of_layer == i && ParametersOf(layer) == layer) ++layers;
    }
    if (layers > 0) visit(i == 0 ? block : other_blocks[i - 1], layers);
  }
}

std::set<RopeConfig> ModelConfig::RopeConfigs() const {
  std::set<RopeConfig> configs;
  ForEachBlock([&](const BlockConfig& of, int64_t) {
    if (of.attention.rope) configs.insert(*of.attention.rope);
  });
  return configs;
}

bool ModelConfig::LayersAgreeOnHeads() const {
  bool agree = true;
  const int64_t heads = LayerBlock(0).attention.num_heads;
  ForEachBlock([&](const BlockConfig& of, int64_t) { agree = agree && of.attention.num_heads == heads; });
  return agree;
}

void ModelConfig::SetPrecision(Precision precision) {
  block.attention.precision = precision;
  for (BlockConfig& other : other_blocks) other.attention.precision = precision;
}

void ModelConfig::SetParametersPrecision(Precision parameters) {
  block.attention.parameters_precision = parameters;
  for (BlockConfig& other : other_blocks) other.attention.parameters_precision = parameters;
}

bool TakesKey(const ModelConfig& config) {
  return !config.embedding && config.num_layers == 1 && config.block.norm_placement == NormPlacement::kNone;
}

int64_t ProjectionFlopsPerToken(const ModelConfig& config) {
  int64_t products = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const BlockConfig& block = config.LayerBlock(layer);
    const AttentionConfig& attention = block.attention;
    int64_t of_layer = attention.embed_dim * attention.q_width() * 2 +
                       (attention.kdim + attention.vdim) * attention.kv_width();
    if (block.norm_placement != NormPlacement::kNone) {
      const FeedForwardConfig& feed_forward = block.feed_forward;
      of_layer += (feed_forward.gated ? 3 : 2) * attention.embed_dim * feed_forward.hidden_dim;
    }
    products += of_layer;
  }
  if (config.embedding && config.embedding->projected) {
    products += config.embedding->dim * config.block.attention.embed_dim;
  }
  return 2 * products;
}

}  // namespace headlight
