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
  return absl::OkStatus();
}

int64_t AttentionParameters::NumParameters() const {
  int64_t num_parameters = 0;
  for (const std::vector<float>* tensor : {&wq, &wk, &wv, &wo, &bq, &bk, &bv, &bo, &bias_k, &bias_v}) {
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
  return weights;
}

}  // namespace headlight
