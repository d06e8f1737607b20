// SPDX-License-Identifier: Apache-2.0
//
// What one call of attention works on: packed tokens, where each sequence begins, and what each sequence asks
// for.
#ifndef HEADLIGHT_CORE_ATTENTION_BATCH_H_
#define HEADLIGHT_CORE_ATTENTION_BATCH_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "core/attention/config.h"
#include "core/runtime/cancellation.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix_view.h"

namespace headlight {

// An explicit mask for one sequence, seen in place: element (head, query, key) is at
// head * head_stride + query * query_stride + key, in elements; a head_stride of 0 shares one mask among the
// heads.
//   kBool  one byte, non-zero where the query may attend to the key
//   kF32   added to the scaled scores; -inf forbids
struct MaskView {
  const void* data = nullptr;  // no explicit mask if null; need not be aligned
  DType dtype = DType::kBool;
  int64_t head_stride = 0;
  int64_t query_stride = 0;

  bool empty() const { return data == nullptr; }
};

// Which keys a query may see by position alone. Query i of a sequence stands at position i + kv_len - q_len
// among the keys (both ends aligned), keys appended by bias_k and add_zero_attn not counted; those every
// query sees.
struct Visibility {
  bool causal = false;                  // no key after the query's position
  std::optional<int64_t> window_left;   // no key more than this far before it
  std::optional<int64_t> window_right;  // no key more than this far after it
};

// Keys [begin, end) in [0, kv_len); begin == end when there is none.
struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;
};

inline KeyRange VisibleKeys(const Visibility& visibility, int64_t query, int64_t q_len, int64_t kv_len) {
  const int64_t position = query + kv_len - q_len;
  int64_t begin = 0;
  int64_t end = kv_len;
  if (visibility.causal) end = std::min(end, position + 1);
  if (visibility.window_left && *visibility.window_left < position)
    begin = position - *visibility.window_left;
  if (visibility.window_right && *visibility.window_right < kv_len - position) {
    end = std::min(end, position + *visibility.window_right + 1);
  }
  begin = std::min(begin, kv_len);
  return {begin, std::max(begin, end)};
}

// Where the attention weights of one sequence go. Row (head, query) is at data + head * head_stride + query *
// query_stride and receives the kv_len weights of that query; what lies beyond kv_len is not touched.
struct WeightsSink {
  enum class Mode : uint8_t {
    kNone,
    kFull,  // every head's weights
    kMean,  // their mean over the heads; head_stride is not used
  };
  Mode mode = Mode::kNone;
  float* data = nullptr;
  int64_t head_stride = 0;
  int64_t query_stride = 0;
};

// What one sequence of a batch asks for.
struct SequenceOptions {
  Visibility visibility;
  MaskView mask;
  WeightsSink weights;
  const CancellationToken* cancelled = nullptr;  // may be null
};

// A batch of sequences, packed one after the other without padding. Sequence b owns the query rows
// [cu_q_lens[b], cu_q_lens[b + 1]) and the key/value rows [cu_kv_lens[b], cu_kv_lens[b + 1]); both lists have
// one entry more than there are sequences and begin with 0. For self attention key and value are the query
// view itself. Rows are contiguous: strides equal columns. The rows of all four matrices are adjacent: stride
// == cols.
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

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_BATCH_H_
