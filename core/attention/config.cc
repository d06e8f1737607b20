// SPDX-License-Identifier: Apache-2.0
#include "core/attention/config.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// Several times the widest published layers (16384 wide, 128 heads of 128 in 2024), and small enough that the
// product of any three dimensions stays far from int64's end, so that no size computed from a valid config
// can overflow.
constexpr int64_t kMaxWidth = 65536;      // embed_dim, kdim, vdim
constexpr int64_t kMaxHeads = 1024;       // num_heads, num_kv_heads
constexpr int64_t kMaxHeadDim = 1024;     // a head's K and V panels must fit a core's L2 cache
constexpr int64_t kMaxAllHeads = 262144;  // num_heads * head_dim
// Finite in f32 with room for the factor log2(e); the softmax has become a plain maximum long before.
constexpr double kMaxAbsScale = 1e6;

absl::Status CheckRange(const std::string& field, int64_t got, int64_t min, int64_t max) {
  if (got >= min && got <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": got ", got, ", wanted ", min, "..", max));
}

// The width of a head when head_dim is left to its default.
absl::Status CheckDefaultHeadDim(const AttentionConfig& config) {
  if (config.embed_dim % config.num_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("num_heads: got ", config.num_heads,
                                                   ", wanted a divisor of embed_dim ", config.embed_dim,
                                                   " (or an explicit head_dim)"));
  }
  return CheckRange("head_dim (embed_dim / num_heads)", config.embed_dim / config.num_heads, 1, kMaxHeadDim);
}

}  // namespace

absl::Status AttentionConfig::Validate() const {
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("embed_dim", embed_dim, 1, kMaxWidth));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("num_heads", num_heads, 1, kMaxHeads));
  // 0 in the fields below asks for the default.
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("num_kv_heads", num_kv_heads, 0, kMaxHeads));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("head_dim", head_dim, 0, kMaxHeadDim));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("kdim", kdim, 0, kMaxWidth));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("vdim", vdim, 0, kMaxWidth));
  if (head_dim == 0) HEADLIGHT_RETURN_IF_ERROR(CheckDefaultHeadDim(*this));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("num_heads * head_dim", q_width(), 0, kMaxAllHeads));
  if (num_kv_heads != 0 && num_heads % num_kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_kv_heads: got ", num_kv_heads, ", wanted a divisor of num_heads ", num_heads));
  }
  if (scale && !(std::abs(*scale) <= kMaxAbsScale)) {
    return absl::InvalidArgumentError(
        absl::StrCat("scale: got ", *scale, ", wanted a number of magnitude at most ", kMaxAbsScale));
  }
  return absl::OkStatus();
}

AttentionConfig AttentionConfig::Resolved() const {
  AttentionConfig resolved = *this;
  if (resolved.num_kv_heads == 0) resolved.num_kv_heads = num_heads;
  if (resolved.head_dim == 0) resolved.head_dim = embed_dim / num_heads;
  if (resolved.kdim == 0) resolved.kdim = embed_dim;
  if (resolved.vdim == 0) resolved.vdim = resolved.kdim;
  if (!resolved.scale) resolved.scale = 1.0 / std::sqrt(static_cast<double>(resolved.head_dim));
  return resolved;
}

}  // namespace headlight
