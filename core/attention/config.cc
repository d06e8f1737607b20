// SPDX-License-Identifier: Apache-2.0
#include "core/attention/config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/check_range.h"
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
constexpr double kMaxPositive = 1e12;  // of RoPE's and softcap's constants: their products stay in range
// Scores are divided by it: below, kMaxAbsScale over it would come near the end of f32. All scores are equal
// by then, whatever it is.
constexpr double kMinSoftcap = 1e-6;

// The width of a head when head_dim is left to its default.
absl::Status CheckDefaultHeadDim(const AttentionConfig& config) {
  if (config.embed_dim % config.num_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("num_heads: got ", config.num_heads,
                                                   ", wanted a divisor of embed_dim ", config.embed_dim,
                                                   " (or an explicit head_dim)"));
  }
  return CheckRange("head_dim (embed_dim / num_heads)", config.embed_dim / config.num_heads, 1, kMaxHeadDim);
}

absl::Status CheckSoftcap(double got) {
  if (got >= kMinSoftcap && got <= kMaxPositive) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("logit_softcap: got ", got, ", wanted 0, or ", kMinSoftcap, "..", kMaxPositive));
}

absl::Status CheckPositive(const std::string& field, double got) {
  if (got > 0 && got <= kMaxPositive) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": got ", got, ", wanted a number above 0 and at most ", kMaxPositive));
}

constexpr int64_t kMaxRopeLen = int64_t{1} << 40;

absl::Status CheckLlama3(const RopeConfig& rope) {
  HEADLIGHT_RETURN_IF_ERROR(CheckPositive("rope.low_freq_factor", rope.low_freq_factor));
  HEADLIGHT_RETURN_IF_ERROR(CheckPositive("rope.high_freq_factor", rope.high_freq_factor));
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    return absl::InvalidArgumentError(absl::StrCat("rope.high_freq_factor: got ", rope.high_freq_factor,
                                                   ", wanted more than low_freq_factor ",
                                                   rope.low_freq_factor));
  }
  return CheckRange("rope.original_max_len", rope.original_max_len, 1, kMaxRopeLen);
}

absl::Status CheckYarn(const RopeConfig& rope) {
  if (rope.theta <= 1.0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope.theta: got ", rope.theta, ", wanted more than 1 with YaRN scaling"));
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckPositive("rope.beta_slow", rope.beta_slow));
  HEADLIGHT_RETURN_IF_ERROR(CheckPositive("rope.beta_fast", rope.beta_fast));
  if (rope.beta_fast < rope.beta_slow) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope.beta_fast: got ", rope.beta_fast, ", wanted at least beta_slow ", rope.beta_slow));
  }
  return CheckRange("rope.original_max_len", rope.original_max_len, 1, kMaxRopeLen);
}

absl::Status CheckByPair(const RopeConfig& rope, int64_t num_pairs) {
  if (std::ssize(rope.pair_factors) != num_pairs) {
    return absl::InvalidArgumentError(absl::StrCat("rope.pair_factors: got ", rope.pair_factors.size(),
                                                   ", wanted one for each of the ", num_pairs, " pairs"));
  }
  for (int64_t i = 0; i < num_pairs; ++i) {
    HEADLIGHT_RETURN_IF_ERROR(
        CheckPositive(absl::StrCat("rope.pair_factors[", i, "]"), rope.pair_factors[i]));
  }
  return absl::OkStatus();
}

absl::Status CheckRope(const RopeConfig& rope, int64_t head_dim) {
  HEADLIGHT_RETURN_IF_ERROR(CheckPositive("rope.theta", rope.theta));
  HEADLIGHT_RETURN_IF_ERROR(CheckPositive("rope.factor", rope.factor));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("rope.rotary_dim", rope.rotary_dim, 0, head_dim));
  const int64_t rotary_dim = rope.rotary_dim == 0 ? head_dim : rope.rotary_dim;
  if (rotary_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope.rotary_dim: got ", rotary_dim, ", wanted an even number"));
  }
  if (rope.scaling == RopeConfig::Scaling::kNtk && rotary_dim == 2) {
    return absl::InvalidArgumentError("rope.rotary_dim: got 2, wanted at least 4 with NTK scaling");
  }
  HEADLIGHT_RETURN_IF_ERROR(CheckPositive("rope.magnitude", rope.magnitude));
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("rope.max_len", rope.max_len, 0, kMaxRopeLen));
  if (rope.scaling == RopeConfig::Scaling::kLlama3) return CheckLlama3(rope);
  if (rope.scaling == RopeConfig::Scaling::kYarn) return CheckYarn(rope);
  if (rope.scaling == RopeConfig::Scaling::kByPair) return CheckByPair(rope, rotary_dim / 2);
  return absl::OkStatus();
}

constexpr int64_t kMaxBuckets = 1 << 14;
constexpr int64_t kMaxDistance = 1 << 20;

absl::Status CheckRelativeBias(const RelativeBiasConfig& config) {
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("relative_bias.num_buckets", config.num_buckets, 4, kMaxBuckets));
  if (config.num_buckets % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("relative_bias.num_buckets: got ", config.num_buckets, ", wanted an even number"));
  }
  return CheckRange("relative_bias.max_distance", config.max_distance, config.num_buckets / 4 + 1,
                    kMaxDistance);
}

// What goes with disentangled attention in the models that have it, and no more.
absl::Status CheckDisentangled(const AttentionConfig& config) {
  const DisentangledConfig& disentangled = *config.disentangled;
  HEADLIGHT_RETURN_IF_ERROR(CheckRange("disentangled.num_buckets", disentangled.num_buckets, 2, kMaxBuckets));
  if (disentangled.max_distance != 0) {
    HEADLIGHT_RETURN_IF_ERROR(CheckRange("disentangled.max_distance", disentangled.max_distance,
                                         disentangled.num_buckets / 2 + 2, kMaxDistance));
  }
  const auto refuse = [](const char* field, const char* wanted) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": got it, wanted ", wanted, " with disentangled"));
  };
  if (config.rope) return refuse("rope", "none");
  if (config.qk_norm != QkNorm::kNone) return refuse("qk_norm", "none");
  if (config.add_bias_kv || config.add_zero_attn) return refuse("add_bias_kv, add_zero_attn", "none");
  if (config.num_kv_heads != 0 && config.num_kv_heads != config.num_heads) {
    return refuse("num_kv_heads", "num_heads");
  }
  if (config.kdim != 0 && config.kdim != config.embed_dim) return refuse("kdim", "embed_dim");
  return absl::OkStatus();
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
  if (precision == Precision::kInt8 && parameters_precision != Precision::kF32) {
    return absl::InvalidArgumentError(absl::StrCat("parameters_precision: got ", Name(parameters_precision),
                                                   ", wanted none with a precision of int8, which holds "
                                                   "parameters in int8 already"));
  }
  if (rope) {
    HEADLIGHT_RETURN_IF_ERROR(CheckRope(*rope, head_dim == 0 ? embed_dim / num_heads : head_dim));
  }
  if (qk_norm != QkNorm::kNone && !(qk_norm_eps >= 0.0 && qk_norm_eps <= 1.0)) {
    return absl::InvalidArgumentError(absl::StrCat("qk_norm_eps: got ", qk_norm_eps, ", wanted 0..1"));
  }
  if (relative_bias) HEADLIGHT_RETURN_IF_ERROR(CheckRelativeBias(*relative_bias));
  if (disentangled) HEADLIGHT_RETURN_IF_ERROR(CheckDisentangled(*this));
  if (logit_softcap != 0.0) HEADLIGHT_RETURN_IF_ERROR(CheckSoftcap(logit_softcap));
  HEADLIGHT_RETURN_IF_ERROR(CheckWindow("window_left", window_left));
  HEADLIGHT_RETURN_IF_ERROR(CheckWindow("window_right", window_right));
  return absl::OkStatus();
}

AttentionConfig AttentionConfig::Resolved() const {
  AttentionConfig resolved = *this;
  if (resolved.num_kv_heads == 0) resolved.num_kv_heads = num_heads;
  if (resolved.head_dim == 0) resolved.head_dim = embed_dim / num_heads;
  if (resolved.kdim == 0) resolved.kdim = embed_dim;
  if (resolved.vdim == 0) resolved.vdim = resolved.kdim;
  if (!resolved.scale) resolved.scale = 1.0 / std::sqrt(static_cast<double>(resolved.head_dim));
  if (resolved.rope && resolved.rope->rotary_dim == 0) resolved.rope->rotary_dim = resolved.head_dim;
  return resolved;
}

int64_t AttentionConfig::LargestDepth() const { return std::max({embed_dim, kdim, vdim, q_width()}); }

}  // namespace headlight
