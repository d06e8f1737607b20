// SPDX-License-Identifier: Apache-2.0
#include "core/attention/sink.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

// Whether rows of `length` elements stay apart when `inner` is the stride between neighbours, `outer` the
// stride between groups of inner_count of them. A stride that joins nothing does not count.
bool RowsStayApart(int64_t length, int64_t inner, int64_t inner_count, int64_t outer, int64_t outer_count) {
  const int64_t group_length = (inner_count - 1) * inner + length;
  return (inner_count == 1 || inner >= length) && (outer_count == 1 || outer >= group_length);
}

absl::Status CheckHeads(absl::string_view name, std::span<const int64_t> heads, int64_t num_heads) {
  for (size_t i = 0; i < heads.size(); ++i) {
    if (heads[i] < 0 || heads[i] >= num_heads) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, "[", i, "]: got ", heads[i], ", wanted 0..", num_heads - 1));
    }
    if (std::find(heads.begin(), heads.begin() + i, heads[i]) != heads.begin() + i) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, "[", i, "]: got ", heads[i], " again, wanted each head once"));
    }
  }
  return absl::OkStatus();
}

// What one sink writes: `maps` x `rows` rows of `length` elements.
absl::Status CheckRowsApart(absl::string_view name, int64_t length, int64_t rows, int64_t query_stride,
                            int64_t maps, int64_t head_stride) {
  if (RowsStayApart(length, query_stride, rows, head_stride, maps) ||
      RowsStayApart(length, head_stride, maps, query_stride, rows)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": got head_stride ", head_stride, " and query_stride ", query_stride,
                   ", wanted strides that keep ", maps, " x ", rows, " rows of ", length, " elements apart"));
}

}  // namespace

WeightsSink WeightsSink::Simplified(int64_t q_len, int64_t num_keys) const {
  WeightsSink simple = *this;
  if (mode == Mode::kGrid && GridRows(q_len) == NumQueries(q_len) && GridCols(num_keys) == num_keys) {
    simple.mode = Mode::kFull;
  }
  return simple;
}

absl::Status CheckSink(const WeightsSink& sink, const AttentionConfig& config, int64_t q_len,
                       int64_t kv_len) {
  using Mode = WeightsSink::Mode;
  constexpr absl::string_view kName = ".weights";
  if (sink.mode == Mode::kNone) return absl::OkStatus();
  if (sink.data == nullptr) return absl::InvalidArgumentError(absl::StrCat(kName, ": got no data"));
  HEADLIGHT_RETURN_IF_ERROR(CheckHeads(".weights.heads", sink.heads, config.num_heads));
  if (sink.query_begin < 0 || sink.query_end < sink.query_begin) {
    return absl::InvalidArgumentError(absl::StrCat(kName, ": got queries [", sink.query_begin, ", ",
                                                   sink.query_end,
                                                   "), wanted a range that begins at 0 or "
                                                   "later and does not end before it begins"));
  }
  if (sink.mode == Mode::kTopK && (sink.top_k < 1 || sink.keys == nullptr)) {
    return absl::InvalidArgumentError(absl::StrCat(kName, ": got top_k ", sink.top_k,
                                                   sink.keys == nullptr ? " and no keys" : "",
                                                   ", wanted at least 1 and a place for the keys"));
  }
  if (sink.mode == Mode::kGrid) {
    for (const int64_t cells : {sink.grid_rows, sink.grid_cols}) {
      if (cells >= 1 && cells <= kMaxGridCells) continue;
      return absl::InvalidArgumentError(absl::StrCat(kName, ": got a grid of ", sink.grid_rows, " x ",
                                                     sink.grid_cols, " cells, wanted 1 to ", kMaxGridCells,
                                                     " either way"));
    }
  }
  const int64_t num_heads = sink.NumHeads(config.num_heads);
  const int64_t keys = kv_len + config.num_appended_keys();
  if (sink.mode == Mode::kSummary) {
    if (sink.received_mass == nullptr) {
      return absl::InvalidArgumentError(".weights.received_mass: got no data");
    }
    HEADLIGHT_RETURN_IF_ERROR(CheckRowsApart(kName, kNumHeadStatistics, 1, 0, num_heads, sink.head_stride));
    return CheckRowsApart(".weights.received_mass", keys, 1, 0, num_heads, sink.received_stride);
  }
  const int64_t queries = sink.NumQueries(q_len);
  if (queries <= 0) return absl::OkStatus();  // nothing is written
  if (sink.mode == Mode::kGrid) {
    return CheckRowsApart(kName, sink.GridCols(keys), sink.GridRows(q_len), sink.query_stride, num_heads,
                          sink.head_stride);
  }
  return CheckRowsApart(kName, sink.mode == Mode::kTopK ? sink.top_k : keys, queries, sink.query_stride,
                        sink.mode == Mode::kMean ? 1 : num_heads, sink.head_stride);
}

}  // namespace headlight
