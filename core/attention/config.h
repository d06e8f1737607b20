// SPDX-License-Identifier: Apache-2.0
//
// The dimensions of one multi-head attention layer.
#ifndef HEADLIGHT_CORE_ATTENTION_CONFIG_H_
#define HEADLIGHT_CORE_ATTENTION_CONFIG_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"

namespace headlight {

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

  // INVALID_ARGUMENT if the fields contradict each other or leave the supported range; the message names the
  // field.
  absl::Status Validate() const;

  // A copy with every default filled in. Requires Validate().ok().
  AttentionConfig Resolved() const;

  int64_t q_width() const { return num_heads * head_dim; }      // columns of Wq, rows of Wo
  int64_t kv_width() const { return num_kv_heads * head_dim; }  // columns of Wk and Wv
  int64_t heads_per_kv_head() const { return num_heads / num_kv_heads; }
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_CONFIG_H_
