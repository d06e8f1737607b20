// SPDX-License-Identifier: Apache-2.0
#include "core/model/config.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/check_range.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// Several times the largest published models, and small enough that no size computed from a valid config can
// overflow.
constexpr int64_t kMaxHiddenDim = 1 << 20;
constexpr int64_t kMaxRows = int64_t{1} << 26;  // of an embedding table
constexpr double kMaxNormEps = 1.0;

absl::Status Prefixed(const std::string& prefix, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(prefix, std::string(status.message())));
}

absl::Status CheckEmbedding(const EmbeddingConfig& embedding) {
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("embedding.vocab_size", embedding.vocab_size, 1, kMaxRows));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("embedding.num_positions", embedding.num_positions, 0, kMaxRows));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("embedding.num_token_types", embedding.num_token_types, 0, kMaxRows));
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
  // Comparisons that NaN fails.
  if (!(block.norm_eps >= 0.0 && block.norm_eps <= kMaxNormEps)) {
    return absl::InvalidArgumentError(
        absl::StrCat("norm_eps: got ", block.norm_eps, ", wanted 0..", kMaxNormEps));
  }
  if (block.norm_placement == NormPlacement::kNone) return absl::OkStatus();
  return CheckRange("feed_forward.hidden_dim", block.feed_forward.hidden_dim, 1, kMaxHiddenDim);
}

}  // namespace

absl::Status ModelConfig::Validate() const {
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("num_layers", num_layers, 1, kMaxLayers));
  const bool stacked = num_layers > 1 || block.norm_placement != NormPlacement::kNone || embedding;
  HEADLIGHT_RETURN_IF_ERROR(CheckBlock(block, stacked));
  if (embedding) HEADLIGHT_RETURN_IF_ERROR(CheckEmbedding(*embedding));
  return absl::OkStatus();
}

ModelConfig ModelConfig::Resolved() const {
  ModelConfig resolved = *this;
  resolved.block.attention = block.attention.Resolved();
  return resolved;
}

int64_t ModelConfig::LargestDepth() const {
  const int64_t hidden_dim = block.norm_placement == NormPlacement::kNone ? 0 : block.feed_forward.hidden_dim;
  return std::max(block.attention.LargestDepth(), hidden_dim);
}

AttentionConfig ModelConfig::LayerAttention(int64_t layer) const {
  AttentionConfig attention = block.attention;
  if (scale_by_inverse_layer) attention.scale = *attention.scale / static_cast<double>(layer + 1);
  return attention;
}

bool TakesKey(const ModelConfig& config) {
  return !config.embedding && config.num_layers == 1 && config.block.norm_placement == NormPlacement::kNone;
}

int64_t ProjectionFlopsPerToken(const ModelConfig& config) {
  const AttentionConfig& attention = config.block.attention;
  int64_t products = attention.embed_dim * attention.q_width() * 2 +
                     (attention.kdim + attention.vdim) * attention.kv_width();
  if (config.block.norm_placement != NormPlacement::kNone) {
    const FeedForwardConfig& feed_forward = config.block.feed_forward;
    products += (feed_forward.gated ? 3 : 2) * attention.embed_dim * feed_forward.hidden_dim;
  }
  return 2 * products * config.num_layers;
}

}  // namespace headlight
