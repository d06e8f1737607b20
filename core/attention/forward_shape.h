// SPDX-License-Identifier: Apache-2.0
//
// What of a batch decides how much memory its computation takes.
#ifndef HEADLIGHT_CORE_ATTENTION_FORWARD_SHAPE_H_
#define HEADLIGHT_CORE_ATTENTION_FORWARD_SHAPE_H_

#include <algorithm>
#include <cstdint>

#include "core/attention/batch.h"

namespace headlight {

struct ForwardShape {
  int64_t tokens = 0;  // queries of all sequences
  int64_t num_sequences = 0;
  int64_t longest = 0;         // queries of a sequence, at most
  int64_t kv_tokens = 0;       // keys of all sequences
  int64_t longest_kv = 0;      // keys of a sequence, at most
  bool self_attention = true;  // keys and values are made of the queries' rows
  // Of the sequences that ask for weights which are made of whole rows (KeepsRows): keys of one, at most. 0:
  // none does. And of those that ask for a grid: queries of one, at most.
  int64_t longest_kv_with_rows = 0;
  int64_t longest_with_grid = 0;
};

// Where every sequence attends to itself.
inline ForwardShape SelfAttentionShape(int64_t tokens, int64_t num_sequences, int64_t longest,
                                       int64_t longest_kv_with_rows = 0, int64_t longest_with_grid = 0) {
  return {tokens, num_sequences, longest, tokens, longest, true, longest_kv_with_rows, longest_with_grid};
}

inline ForwardShape ShapeOf(const AttentionBatch& batch) {
  ForwardShape shape{.tokens = batch.cu_q_lens.back(),
                     .num_sequences = batch.num_sequences(),
                     .kv_tokens = batch.cu_kv_lens.back(),
                     .self_attention = batch.key == batch.query && batch.value == batch.query};
  for (int64_t i = 0; i < batch.num_sequences(); ++i) {
    shape.longest = std::max(shape.longest, batch.q_len(i));
    shape.longest_kv = std::max(shape.longest_kv, batch.kv_len(i));
    const WeightsSink& weights = batch.sequences[i].weights;
    if (weights.KeepsRows())
      shape.longest_kv_with_rows = std::max(shape.longest_kv_with_rows, batch.kv_len(i));
    if (weights.mode == WeightsSink::Mode::kGrid) {
      shape.longest_with_grid = std::max(shape.longest_with_grid, batch.q_len(i));
    }
  }
  return shape;
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_FORWARD_SHAPE_H_
