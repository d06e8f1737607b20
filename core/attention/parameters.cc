// SPDX-License-Identifier: Apache-2.0
#include "core/attention/parameters.h"

#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/uniform_source.h"

namespace headlight {
namespace {

enum class Presence { kRequired, kOptional };

absl::Status CheckSize(const std::string& name, const std::vector<float>& tensor, int64_t rows, int64_t cols,
                       Presence presence) {
  const int64_t got = static_cast<int64_t>(tensor.size());
  if (got == rows * cols || (got == 0 && presence == Presence::kOptional)) return absl::OkStatus();
  const std::string shape =
      rows == 1 ? absl::StrCat("[", cols, "]") : absl::StrCat("[", rows, ", ", cols, "]");
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": got ", got, " elements, wanted ", rows * cols, " of shape ", shape));
}

absl::Status CheckMatrix(const std::string& name, const std::vector<float>& tensor, int64_t rows,
                         int64_t cols) {
  return CheckSize(name, tensor, rows, cols, Presence::kRequired);
}

absl::Status CheckBias(const std::string& name, const std::vector<float>& tensor, int64_t cols) {
  return CheckSize(name, tensor, 1, cols, Presence::kOptional);
}

}  // namespace

absl::Status AttentionParameters::Validate(const AttentionConfig& config) const {
  const int64_t q_width = config.q_width();
  const int64_t kv_width = config.kv_width();
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("wq", wq, config.embed_dim, q_width));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("wk", wk, config.kdim, kv_width));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("wv", wv, config.vdim, kv_width));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("wo", wo, q_width, config.embed_dim));
  HEADLIGHT_RETURN_IF_ERROR(CheckBias("bq", bq, q_width));
  HEADLIGHT_RETURN_IF_ERROR(CheckBias("bk", bk, kv_width));
  HEADLIGHT_RETURN_IF_ERROR(CheckBias("bv", bv, kv_width));
  HEADLIGHT_RETURN_IF_ERROR(CheckBias("bo", bo, config.embed_dim));
  const int64_t appended_width = config.add_bias_kv ? kv_width : 0;
  HEADLIGHT_RETURN_IF_ERROR(CheckSize("bias_k", bias_k, 1, appended_width, Presence::kRequired));
  HEADLIGHT_RETURN_IF_ERROR(CheckSize("bias_v", bias_v, 1, appended_width, Presence::kRequired));
  const auto norm_width = [&](int64_t all_heads) {
    return config.qk_norm == QkNorm::kNone       ? 0
           : config.qk_norm == QkNorm::kEachHead ? config.head_dim
                                                 : all_heads;
  };
  HEADLIGHT_RETURN_IF_ERROR(CheckSize("q_norm", q_norm, 1, norm_width(q_width), Presence::kRequired));
  HEADLIGHT_RETURN_IF_ERROR(CheckSize("k_norm", k_norm, 1, norm_width(kv_width), Presence::kRequired));
  const int64_t buckets = config.relative_bias ? config.relative_bias->num_buckets : 0;
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("relative_bias", relative_bias, buckets, config.num_heads));
  HEADLIGHT_RETURN_IF_ERROR(
      CheckSize("sinks", sinks, 1, config.sinks ? config.num_heads : 0, Presence::kRequired));
  const int64_t rows = config.disentangled ? 2 * config.disentangled->num_buckets : 0;
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("distances", distances, rows, config.embed_dim));
  const int64_t norm = config.disentangled && config.disentangled->norm_eps ? config.embed_dim : 0;
  HEADLIGHT_RETURN_IF_ERROR(CheckSize("distance_gain", distance_gain, 1, norm, Presence::kRequired));
  HEADLIGHT_RETURN_IF_ERROR(CheckSize("distance_bias", distance_bias, 1, norm, Presence::kRequired));
  const bool own = config.disentangled && config.disentangled->own_projections;
  const int64_t key_width = own && config.disentangled->query_to_position ? q_width : 0;
  const int64_t query_width = own && config.disentangled->key_to_position ? q_width : 0;
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("distance_wk", distance_wk, config.embed_dim, key_width));
  HEADLIGHT_RETURN_IF_ERROR(CheckBias("distance_bk", distance_bk, key_width));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("distance_wq", distance_wq, config.embed_dim, query_width));
  return CheckBias("distance_bq", distance_bq, query_width);
}

int64_t AttentionParameters::NumParameters() const {
  int64_t num_parameters = 0;
  for (const std::vector<float>* tensor : {&wq,
                                           &wk,
                                           &wv,
                                           &wo,
                                           &bq,
                                           &bk,
                                           &bv,
                                           &bo,
                                           &bias_k,
                                           &bias_v,
                                           &q_norm,
                                           &k_norm,
                                           &relative_bias,
                                           &distances,
                                           &distance_gain,
                                           &distance_bias,
                                           &distance_wk,
                                           &distance_bk,
                                           &distance_wq,
                                           &distance_bq,
                                           &sinks}) {
    num_parameters += static_cast<int64_t>(tensor->size());
  }
  return num_parameters;
}

AttentionParameters RandomParameters(const AttentionConfig& config, uint64_t seed) {
  const int64_t q_width = config.q_width();
  const int64_t kv_width = config.kv_width();
  UniformSource source(seed);
  const auto matrix = [&](int64_t in, int64_t out) { return source.Draw(in * out, XavierBound(in, out)); };
  // The order of these lines is part of what a seed means.
  AttentionParameters weights;
  weights.wq = matrix(config.embed_dim, q_width);
  weights.wk = matrix(config.kdim, kv_width);
  weights.wv = matrix(config.vdim, kv_width);
  weights.wo = matrix(q_width, config.embed_dim);
  weights.bq = source.Draw(q_width, kBiasBound);
  weights.bk = source.Draw(kv_width, kBiasBound);
  weights.bv = source.Draw(kv_width, kBiasBound);
  weights.bo = source.Draw(config.embed_dim, kBiasBound);
  if (config.add_bias_kv) {
    weights.bias_k = source.Draw(kv_width, XavierBound(1, kv_width));
    weights.bias_v = source.Draw(kv_width, XavierBound(1, kv_width));
  }
  const auto gains = [&](int64_t width) {  // around 1
    std::vector<float> gain = source.Draw(width, kGainBound);
    for (float& number : gain) number += 1.0f;
    return gain;
  };
  if (config.qk_norm != QkNorm::kNone) {
    const bool each = config.qk_norm == QkNorm::kEachHead;
    weights.q_norm = gains(each ? config.head_dim : q_width);
    weights.k_norm = gains(each ? config.head_dim : kv_width);
  }
  if (config.relative_bias) {
    weights.relative_bias = source.Draw(config.relative_bias->num_buckets * config.num_heads, 1.0f);
  }
  if (config.disentangled) {
    weights.distances = source.Draw(2 * config.disentangled->num_buckets * config.embed_dim, 1.0f);
    if (config.disentangled->norm_eps) {
      weights.distance_gain = gains(config.embed_dim);
      weights.distance_bias = source.Draw(config.embed_dim, kBiasBound);
    }
    const bool own = config.disentangled->own_projections;
    if (own && config.disentangled->query_to_position) {
      weights.distance_wk = matrix(config.embed_dim, q_width);
      weights.distance_bk = source.Draw(q_width, kBiasBound);
    }
    if (own && config.disentangled->key_to_position) {
      weights.distance_wq = matrix(config.embed_dim, q_width);
      weights.distance_bq = source.Draw(q_width, kBiasBound);
    }
  }
  if (config.sinks) weights.sinks = source.Draw(config.num_heads, 2.0f);
  return weights;
}

}  // namespace headlight
