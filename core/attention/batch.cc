// SPDX-License-Identifier: Apache-2.0
#include "core/attention/batch.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

template <typename T>
absl::Status CheckMatrix(absl::string_view name, const BasicMatrixView<T>& view, absl::string_view cols_name,
                         int64_t cols) {
  if (view.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": got no data"));
  if (view.cols != cols) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": got ", view.cols, " columns, wanted ", cols_name, " ", cols));
  }
  if (view.stride != view.cols) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": got a stride of ", view.stride, ", wanted its ", view.cols, " columns"));
  }
  return absl::OkStatus();
}

absl::Status CheckRows(absl::string_view name, int64_t got, absl::string_view like, int64_t wanted) {
  if (got == wanted) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": got ", got, " rows, wanted ", wanted, " as in ", like));
}

// A list of cumulated lengths: 0 first, growing by at least 1, `rows` last.
absl::Status CheckCumulated(absl::string_view name, std::span<const int64_t> cumulated, int64_t num_sequences,
                            int64_t rows) {
  if (static_cast<int64_t>(cumulated.size()) != num_sequences + 1) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": got ", cumulated.size(), " entries, wanted ",
                                                   num_sequences + 1, ", one more than sequences"));
  }
  if (cumulated.front() != 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, "[0]: got ", cumulated.front(), ", wanted 0"));
  }
  for (int64_t i = 1; i <= num_sequences; ++i) {
    if (cumulated[i] <= cumulated[i - 1]) {
      return absl::InvalidArgumentError(absl::StrCat(name, "[", i, "]: got ", cumulated[i],
                                                     ", wanted more than ", cumulated[i - 1], " before it"));
    }
  }
  if (cumulated.back() != rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": got ", cumulated.back(), " as last entry, wanted the number of rows, ", rows));
  }
  return absl::OkStatus();
}

absl::Status CheckMask(absl::string_view name, const MaskView& mask) {
  if (mask.empty()) return absl::OkStatus();
  if (mask.dtype != DType::kBool && mask.dtype != DType::kF32) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": got the type ", Name(mask.dtype), ", wanted bool or f32"));
  }
  if (mask.head_stride >= 0 && mask.query_stride >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": got strides of ", mask.head_stride, " and ",
                                                 mask.query_stride, ", wanted none below 0"));
}

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
  const int64_t num_heads = sink.NumHeads(config.num_heads);
  const int64_t keys = kv_len + config.num_appended_keys();
  if (sink.mode == Mode::kSummary) {
    if (sink.received_mass == nullptr) {
      return absl::InvalidArgumentError(".weights.received_mass: got no data");
    }
    HEADLIGHT_RETURN_IF_ERROR(CheckRowsApart(kName, kNumHeadStatistics, 1, 0, num_heads, sink.head_stride));
    return CheckRowsApart(".weights.received_mass", keys, 1, 0, num_heads, sink.received_stride);
  }
  const int64_t queries = sink.QueryEnd(q_len) - sink.QueryBegin(q_len);
  if (queries <= 0) return absl::OkStatus();  // nothing is written
  return CheckRowsApart(kName, sink.mode == Mode::kTopK ? sink.top_k : keys, queries, sink.query_stride,
                        sink.mode == Mode::kMean ? 1 : num_heads, sink.head_stride);
}

// Messages begin inside the sequence, as ".mask: ..."
absl::Status CheckSequence(const SequenceOptions& options, const AttentionConfig& config, int64_t q_len,
                           int64_t kv_len) {
  HEADLIGHT_RETURN_IF_ERROR(CheckWindow(".visibility.window_left", options.visibility.window_left));
  HEADLIGHT_RETURN_IF_ERROR(CheckWindow(".visibility.window_right", options.visibility.window_right));
  HEADLIGHT_RETURN_IF_ERROR(CheckMask(".mask", options.mask));
  return CheckSink(options.weights, config, q_len, kv_len);
}

}  // namespace

Visibility Narrowed(const Visibility& a, const Visibility& b) {
  const auto narrower = [](std::optional<int64_t> x, std::optional<int64_t> y) {
    if (x && y) return std::optional(std::min(*x, *y));
    return x ? x : y;
  };
  return {a.causal || b.causal, narrower(a.window_left, b.window_left),
          narrower(a.window_right, b.window_right)};
}

absl::Status AttentionBatch::Validate(const AttentionConfig& config) const {
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("query", query, "embed_dim", config.embed_dim));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("key", key, "kdim", config.kdim));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("value", value, "vdim", config.vdim));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("output", output, "embed_dim", config.embed_dim));
  HEADLIGHT_RETURN_IF_ERROR(CheckRows("value", value.rows, "key", key.rows));
  HEADLIGHT_RETURN_IF_ERROR(CheckRows("output", output.rows, "query", query.rows));
  if (sequences.empty()) return absl::InvalidArgumentError("sequences: got none, wanted at least 1");
  HEADLIGHT_RETURN_IF_ERROR(CheckCumulated("cu_q_lens", cu_q_lens, num_sequences(), query.rows));
  HEADLIGHT_RETURN_IF_ERROR(CheckCumulated("cu_kv_lens", cu_kv_lens, num_sequences(), key.rows));
  for (int64_t i = 0; i < num_sequences(); ++i) {
    const absl::Status status = CheckSequence(sequences[i], config, q_len(i), kv_len(i));
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("sequences[", i, "]", std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace headlight
