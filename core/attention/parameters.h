// SPDX-License-Identifier: Apache-2.0
//
// The learned parameters of one attention layer, in plain layout, as loaders and generators make them.
// Kernels pack their own copy once (packed_layer.h) and do not keep this one.
#ifndef HEADLIGHT_CORE_ATTENTION_PARAMETERS_H_
#define HEADLIGHT_CORE_ATTENTION_PARAMETERS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/attention/config.h"

namespace headlight {

// All matrices are f32, row-major [in, out], so that y = x W + b. Head h owns the columns [h * head_dim, (h +
// 1) * head_dim) of wq (kv heads: of wk and wv) and the same rows of wo. An empty bias means none.
struct AttentionParameters {
  std::vector<float> wq;  // [embed_dim, num_heads * head_dim]
  std::vector<float> wk;  // [kdim, num_kv_heads * head_dim]
  std::vector<float> wv;  // [vdim, num_kv_heads * head_dim]
  std::vector<float> wo;  // [num_heads * head_dim, embed_dim]
  std::vector<float> bq;  // [num_heads * head_dim]
  std::vector<float> bk;  // [num_kv_heads * head_dim]
  std::vector<float> bv;  // [num_kv_heads * head_dim]
  std::vector<float> bo;  // [embed_dim]
  // With AttentionConfig::add_bias_kv: the learned key and value that are appended, already projected. Else
  // empty.
  std::vector<float> bias_k;  // [num_kv_heads * head_dim]
  std::vector<float> bias_v;  // [num_kv_heads * head_dim]
  // With AttentionConfig::qk_norm: gains, [head_dim] for kEachHead, else as wide as all heads. Else empty.
  std::vector<float> q_norm;
  std::vector<float> k_norm;
  std::vector<float>
      relative_bias;  // [num_buckets, num_heads] with AttentionConfig::relative_bias, else empty
  std::vector<float> sinks;          // [num_heads] with AttentionConfig::sinks, else empty
  // With AttentionConfig::disentangled: the table of distances and its norm. Else empty.
  std::vector<float> distances;      // [2 * num_buckets, embed_dim]
  std::vector<float> distance_gain;  // [embed_dim] with DisentangledConfig::norm_eps
  std::vector<float> distance_bias;  // [embed_dim]
  // With DisentangledConfig::own_projections: of keys with query_to_position, of queries with
  // key_to_position.
  std::vector<float> distance_wk;  // [embed_dim, num_heads * head_dim]
  std::vector<float> distance_bk;  // [num_heads * head_dim]
  std::vector<float> distance_wq;  // [embed_dim, num_heads * head_dim]
  std::vector<float> distance_bq;  // [num_heads * head_dim]

  // INVALID_ARGUMENT naming the tensor whose size does not fit `config` (resolved).
  absl::Status Validate(const AttentionConfig& config) const;

  int64_t NumParameters() const;
};

// Weights for demos and tests: each matrix Xavier uniform (Glorot and Bengio 2010), each bias uniform in
// +-0.02, from a 64-bit Mersenne twister. The same seed gives the same bits on every machine. `config` must
// be resolved.
AttentionParameters RandomParameters(const AttentionConfig& config, uint64_t seed);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_PARAMETERS_H_
