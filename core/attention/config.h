// SPDX-License-Identifier: Apache-2.0
//
// The dimensions of one multi-head attention layer.
#ifndef HEADLIGHT_CORE_ATTENTION_CONFIG_H_
#define HEADLIGHT_CORE_ATTENTION_CONFIG_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "core/attention/position.h"
#include "core/attention/visibility.h"
#include "core/product/precision.h"

namespace headlight {

// An RMS norm of projected queries and keys, before they turn: x / sqrt(mean(x^2) + eps) * gain, of each head
// by itself or of all heads together.
enum class QkNorm : uint8_t {
  kNone,
  kEachHead,  // one gain for all heads of the queries, one for those of the keys (Qwen3, Gemma 3)
  kAllHeads,  // OLMo 2
};

// What a layer looks like, apart from its numbers. Fields at 0 take the default that their comment names;
// Resolved() fills them in, and everything below the public API sees resolved configs only.
struct AttentionConfig {
  int64_t embed_dim = 0;     // width of queries and of the output
  int64_t num_heads = 0;     // query heads
  int64_t num_kv_heads = 0;  // key/value heads, divides num_heads; default num_heads
  int64_t head_dim = 0;      // width of a head; default embed_dim / num_heads, which must then divide evenly
  int64_t kdim = 0;          // width of the key input; default embed_dim
  int64_t vdim = 0;          // width of the value input; default kdim
  // Factor on q . k; default 1 / sqrt(head_dim) (Vaswani et al. 2017, section 3.2.1).
  std::optional<double> scale;
  // As in torch.nn.MultiheadAttention: a key/value of zeros appended to every sequence, allowed for every
  // query.
  bool add_zero_attn = false;
  // As in torch.nn.MultiheadAttention: a learned key/value (AttentionParameters::bias_k, bias_v) appended to
  // every sequence before the one of zeros, allowed for every query, neither rotated nor biased by position.
  bool add_bias_kv = false;
  QkNorm qk_norm = QkNorm::kNone;
  double qk_norm_eps = 1e-6;
  std::optional<RopeConfig> rope;
  // Scores get -slope_h |position of the query - position of the key|, slopes as Press et al. 2022
  // (arXiv:2108.12409) choose them; see AlibiSlope.
  bool alibi = false;
  std::optional<RelativeBiasConfig> relative_bias;
  std::optional<DisentangledConfig> disentangled;
  // Scores become softcap * tanh(score / softcap) before ALiBi and masks; 0 means none, else at least 1e-6.
  double logit_softcap = 0.0;
  // The softmax of each head has one term more, a learned score that no key has (Xiao et al. 2023,
  // arXiv:2309.17453, as layers trained so have it): the weights of a query sum to less than 1.
  bool sinks = false;
  // Sliding window of the layer; a request's own window narrows it further. As in visibility.h.
  std::optional<int64_t> window_left;
  std::optional<int64_t> window_right;
  Precision precision = Precision::kF32;
  // What parameters of projections and feed-forward networks are held in where that is narrower than what
  // they are multiplied in; kF32: nothing narrower. Not with a precision of kInt8.
  Precision parameters_precision = Precision::kF32;

  // INVALID_ARGUMENT if the fields contradict each other or leave the supported range; the message names the
  // field.
  absl::Status Validate() const;

  // A copy with every default filled in. Requires Validate().ok().
  AttentionConfig Resolved() const;

  int64_t q_width() const { return num_heads * head_dim; }      // columns of Wq, rows of Wo
  int64_t kv_width() const { return num_kv_heads * head_dim; }  // columns of Wk and Wv
  int64_t heads_per_kv_head() const { return num_heads / num_kv_heads; }
  int64_t LargestDepth() const;  // of a projection's product
  int64_t num_appended_keys() const { return int64_t{add_bias_kv} + int64_t{add_zero_attn}; }
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_CONFIG_H_
