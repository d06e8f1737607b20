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

// Messages begin inside the sequence, as ".mask: ..."
absl::Status CheckSequence(const SequenceOptions& options, const AttentionConfig& config, int64_t q_len,
                           int64_t kv_len) {
  HEADLIGHT_RETURN_IF_ERROR(CheckWindow(".visibility.window_left", options.visibility.window_left));
  HEADLIGHT_RETURN_IF_ERROR(CheckWindow(".visibility.window_right", options.visibility.window_right));
  HEADLIGHT_RETURN_IF_ERROR(CheckMask(options.mask));
  if (config.rope && config.rope->max_len > 0 && std::max(q_len, kv_len) > config.rope->max_len) {
    return absl::InvalidArgumentError(absl::StrCat(": got ", std::max(q_len, kv_len),
                                                   " tokens, wanted at most ", config.rope->max_len,
                                                   ": rotary positions of longer sequences are not served"));
  }
  return CheckSink(options.weights, config, q_len, kv_len);
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
    const absl::Status status = CheckSequence(sequences[i], config, q_len(i), kv_len(i));
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("sequences[", i, "]", std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace headlight
