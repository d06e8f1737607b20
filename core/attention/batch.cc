// SPDX-License-Identifier: Apache-2.0
#include "core/attention/batch.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace headlight {
namespace {

template <typename T>
absl::Status CheckMatrix(const std::string& name, const BasicMatrixView<T>& view,
                         const std::string& cols_name, int64_t cols) {
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

absl::Status CheckRows(const std::string& name, int64_t got, const std::string& like, int64_t wanted) {
  if (got == wanted) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": got ", got, " rows, wanted ", wanted, " as in ", like));
}

// A list of cumulated lengths: 0 first, growing by at least 1, `rows` last.
absl::Status CheckCumulated(const std::string& name, std::span<const int64_t> cumulated,
                            int64_t num_sequences, int64_t rows) {
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

absl::Status CheckWindow(const std::string& name, std::optional<int64_t> window) {
  if (!window || *window >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": got ", *window, ", wanted at least 0"));
}

absl::Status CheckMask(const std::string& name, const MaskView& mask) {
  if (mask.empty() || (mask.head_stride >= 0 && mask.query_stride >= 0)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": got strides of ", mask.head_stride, " and ",
                                                 mask.query_stride, ", wanted none below 0"));
}

// Whether rows of `length` elements stay apart when `inner` is the stride between neighbours, `outer` the
// stride between groups of inner_count of them. A stride that joins nothing does not count.
bool RowsStayApart(int64_t length, int64_t inner, int64_t inner_count, int64_t outer, int64_t outer_count) {
  const int64_t group_length = (inner_count - 1) * inner + length;
  return (inner_count == 1 || inner >= length) && (outer_count == 1 || outer >= group_length);
}

absl::Status CheckSink(const std::string& name, const WeightsSink& sink, int64_t num_heads, int64_t q_len,
                       int64_t kv_len) {
  if (sink.mode == WeightsSink::Mode::kNone) return absl::OkStatus();
  if (sink.data == nullptr) return absl::InvalidArgumentError(absl::StrCat(name, ": got no data"));
  const int64_t num_maps = sink.mode == WeightsSink::Mode::kFull ? num_heads : 1;
  if (RowsStayApart(kv_len, sink.query_stride, q_len, sink.head_stride, num_maps) ||
      RowsStayApart(kv_len, sink.head_stride, num_maps, sink.query_stride, q_len)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": got head_stride ", sink.head_stride, " and query_stride ", sink.query_stride,
      ", wanted strides that keep ", num_maps, " x ", q_len, " rows of ", kv_len, " weights apart"));
}

absl::Status CheckSequence(const std::string& name, const SequenceOptions& options, int64_t num_heads,
                           int64_t q_len, int64_t kv_len) {
  HEADLIGHT_RETURN_IF_ERROR(
      CheckWindow(absl::StrCat(name, ".visibility.window_left"), options.visibility.window_left));
  HEADLIGHT_RETURN_IF_ERROR(
      CheckWindow(absl::StrCat(name, ".visibility.window_right"), options.visibility.window_right));
  HEADLIGHT_RETURN_IF_ERROR(CheckMask(absl::StrCat(name, ".mask"), options.mask));
  return CheckSink(absl::StrCat(name, ".weights"), options.weights, num_heads, q_len, kv_len);
}

}  // namespace

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
    HEADLIGHT_RETURN_IF_ERROR(CheckSequence(absl::StrCat("sequences[", i, "]"), sequences[i],
                                            config.num_heads, q_len(i), kv_len(i)));
  }
  return absl::OkStatus();
}

}  // namespace headlight
