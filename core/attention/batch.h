// SPDX-License-Identifier: Apache-2.0
//
// What one call of attention works on: packed tokens, where each sequence begins, and what each sequence asks
// for.
#ifndef HEADLIGHT_CORE_ATTENTION_BATCH_H_
#define HEADLIGHT_CORE_ATTENTION_BATCH_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
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

// Both at once: what each of them allows.
Visibility Narrowed(const Visibility& a, const Visibility& b);

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

// How one head attends, averaged over queries; the order of WeightsSink::data in Mode::kSummary. Defined in
// reference.h: HeadSummary.
enum HeadStatistic : int {
  kEntropyNats,
  kDistanceTokens,
  kMaxWeight,
  kSelfMass,
  kFirstTokenMass,
  kEffectiveSupport,
  kNumHeadStatistics,
};

// Where the attention weights of one sequence, or what is asked about them, go. With n = kv_len + the layer's
// appended keys, heads as reported and queries counted from query_begin:
//   kFull     n weights at data + head * head_stride + query * query_stride
//   kMean     their mean over the reported heads: n weights at data + query * query_stride
//   kTopK     the top_k largest weights, best first, equal ones in the order of their keys: at data + head *
//             head_stride + query * query_stride, their keys at the same place of `keys`. Only weights above
//             0 count; entries without one are weight 0, key -1.
//   kSummary  kNumHeadStatistics numbers at data + head * head_stride, and the weight that each key receives,
//             summed over the queries: n numbers at received_mass + head * received_stride
// What lies beyond is not touched.
struct WeightsSink {
  enum class Mode : uint8_t { kNone, kFull, kMean, kTopK, kSummary };
  Mode mode = Mode::kNone;
  float* data = nullptr;
  int64_t head_stride = 0;
  int64_t query_stride = 0;
  std::span<const int64_t> heads = {};  // the reported heads, in the order of the results, none twice; empty:
                                        // all
  int64_t query_begin = 0;  // reported queries [query_begin, query_end), cut at q_len; both 0: all
  int64_t query_end = 0;
  int64_t top_k = 0;
  int32_t* keys = nullptr;
  float* received_mass = nullptr;
  int64_t received_stride = 0;

  int64_t NumHeads(int64_t num_heads) const { return heads.empty() ? num_heads : std::ssize(heads); }
  // Place of `head` among the reported ones; -1 if it is not.
  int64_t HeadPlace(int64_t head) const {
    if (heads.empty()) return head;
    const auto found = std::find(heads.begin(), heads.end(), head);
    return found == heads.end() ? -1 : found - heads.begin();
  }
  int64_t QueryBegin(int64_t q_len) const { return std::min(query_begin, q_len); }
  int64_t QueryEnd(int64_t q_len) const {
    return query_begin == 0 && query_end == 0 ? q_len : std::min(query_end, q_len);
  }
};

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
