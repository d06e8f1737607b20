// SPDX-License-Identifier: Apache-2.0
//
// Where the attention weights of one sequence, or what is asked about them, go.
#ifndef HEADLIGHT_CORE_ATTENTION_SINK_H_
#define HEADLIGHT_CORE_ATTENTION_SINK_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <span>

#include "absl/status/status.h"
#include "core/attention/config.h"

namespace headlight {

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

// Cells of a kGrid, either way.
inline constexpr int64_t kMaxGridCells = 64;

// With n = kv_len + the layer's appended keys, heads as reported and queries counted from query_begin:
//   kFull     n weights at data + head * head_stride + query * query_stride
//   kMean     their mean over the reported heads: n weights at data + query * query_stride
//   kTopK     the top_k largest weights, best first, equal ones in the order of their keys: at data + head *
//             head_stride + query * query_stride, their keys at the same place of `keys`. Only weights above
//             0 count; entries without one are weight 0, key -1.
//   kSummary  kNumHeadStatistics numbers at data + head * head_stride, and the weight that each key receives,
//             summed over the queries: n numbers at received_mass + head * received_stride
//   kGrid     means over cells of neighbouring queries and keys. With Q queries reported, R = min(grid_rows,
//             Q) rows of C = min(grid_cols, n) cells: cell (r, c) is the sum of the weights of the queries
//             [r Q / R, (r + 1) Q / R) for the keys [c n / C, (c + 1) n / C), all ends rounded down, divided
//             by the number of these pairs; weights of keys that a query does not see are 0. C numbers at
//             data + head * head_stride + r * query_stride. The cells of a row, each times its number of
//             keys, sum to the mean of its queries' sums: without learned sinks, the share of those that see
//             a key.
// What lies beyond is not touched.
struct WeightsSink {
  enum class Mode : uint8_t { kNone, kFull, kMean, kTopK, kSummary, kGrid };
  Mode mode = Mode::kNone;
  float* data = nullptr;
  int64_t head_stride = 0;
  int64_t query_stride = 0;
  // The reported heads, in the order of the results, none twice; empty: all.
  std::span<const int64_t> heads = {};
  int64_t query_begin = 0;  // reported queries [query_begin, query_end), cut at q_len; both 0: all
  int64_t query_end = 0;
  int64_t top_k = 0;
  int32_t* keys = nullptr;
  float* received_mass = nullptr;
  int64_t received_stride = 0;
  int64_t grid_rows = kMaxGridCells;  // at most, and so is the next; 1 to kMaxGridCells
  int64_t grid_cols = kMaxGridCells;

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
  int64_t NumQueries(int64_t q_len) const { return QueryEnd(q_len) - QueryBegin(q_len); }
  int64_t GridRows(int64_t q_len) const { return std::min(grid_rows, NumQueries(q_len)); }
  int64_t GridCols(int64_t num_keys) const { return std::min(grid_cols, num_keys); }
  // What has the same bits and costs less: a kGrid of cells that are single pairs is a kFull.
  WeightsSink Simplified(int64_t q_len, int64_t num_keys) const;
  // Whether it is made of whole rows of weights, which are kept for it until their sums are known.
  bool KeepsRows() const { return mode != Mode::kNone && mode != Mode::kGrid; }
};

// INVALID_ARGUMENT: what it asks for is not there or has no room. `config` is resolved. Messages begin with
// ".weights".
absl::Status CheckSink(const WeightsSink& sink, const AttentionConfig& config, int64_t q_len, int64_t kv_len);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_SINK_H_
