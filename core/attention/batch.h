// SPDX-License-Identifier: Apache-2.0
//
// What one call of attention works on: packed tokens, where each sequence begins, and what each sequence asks
// for.
#ifndef HEADLIGHT_CORE_ATTENTION_BATCH_H_
#define HEADLIGHT_CORE_ATTENTION_BATCH_H_

#include <algorithm>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "core/attention/config.h"
#include "core/attention/mask.h"
#include "core/attention/sink.h"
#include "core/attention/visibility.h"
#include "core/runtime/cancellation.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// What one sequence of a batch asks for.
struct SequenceOptions {
  Visibility visibility;
  MaskView mask;
  WeightsSink weights;
  const CancellationToken* cancelled = nullptr;  // may be null
};

// What a sequence's queries may see by position: what the layer and the request allow.
inline Visibility VisibilityOf(const AttentionConfig& config, const SequenceOptions& sequence) {
  return Narrowed({.window_left = config.window_left, .window_right = config.window_right},
                  sequence.visibility);
}

// A batch of sequences, packed one after the other without padding. Sequence b owns the query rows
// [cu_q_lens[b], cu_q_lens[b + 1]) and the key/value rows [cu_kv_lens[b], cu_kv_lens[b + 1]); both lists have
// one entry more than there are sequences and begin with 0. For self attention key and value are the query
// view itself. The rows of all four matrices are adjacent: stride == cols.
struct AttentionBatch {
  MatrixView query;  // [q_tokens, embed_dim]
  MatrixView key;    // [kv_tokens, kdim]
  MatrixView value;  // [kv_tokens, vdim]
  std::span<const int64_t> cu_q_lens;
  std::span<const int64_t> cu_kv_lens;
  std::span<const SequenceOptions> sequences;  // one for each sequence
  MutableMatrixView output;                    // [q_tokens, embed_dim], aliases none of the inputs

  int64_t num_sequences() const { return static_cast<int64_t>(sequences.size()); }
  int64_t q_len(int64_t sequence) const { return cu_q_lens[sequence + 1] - cu_q_lens[sequence]; }
  int64_t kv_len(int64_t sequence) const { return cu_kv_lens[sequence + 1] - cu_kv_lens[sequence]; }

  // INVALID_ARGUMENT naming the field that contradicts the others or `config` (resolved). Every sequence must
  // have at least one query row and one key row.
  absl::Status Validate(const AttentionConfig& config) const;
};

inline bool IsCancelled(const SequenceOptions& sequence) {
  return sequence.cancelled != nullptr && sequence.cancelled->IsCancelled();
}

// What the sequences of the rows [first_row, first_row + rows) ask for; cu_lens is one of the batch's lists.
inline std::span<const SequenceOptions> SequencesOf(std::span<const SequenceOptions> sequences,
                                                    std::span<const int64_t> cu_lens, int64_t first_row,
                                                    int64_t rows) {
  const auto first = std::upper_bound(cu_lens.begin(), cu_lens.end(), first_row) - 1;
  const auto end = std::lower_bound(first, cu_lens.end(), first_row + rows);
  return sequences.subspan(first - cu_lens.begin(), end - first);
}

// Whether somebody still waits for one of them.
inline bool AnyoneWaits(std::span<const SequenceOptions> sequences) {
  return std::any_of(sequences.begin(), sequences.end(),
                     [](const SequenceOptions& sequence) { return !IsCancelled(sequence); });
}

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_BATCH_H_
