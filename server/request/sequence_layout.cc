// SPDX-License-Identifier: Apache-2.0
#include "server/request/sequence_layout.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

template <typename... Parts>
absl::Status WrongLength(const std::string& field, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(field, parts...));
}

}  // namespace

SequenceLayout LayoutOf(std::span<const int64_t> dims, int64_t ragged_sequences) {
  if (dims.size() == 2) return {dims[0], dims[1], dims[0] * dims[1]};
  return {ragged_sequences, 0, dims[0]};
}

absl::StatusOr<std::vector<int64_t>> SequenceLengths(const std::string& field, const std::string& tensor,
                                                     std::span<const int64_t> lens,
                                                     const SequenceLayout& layout) {
  if (layout.num_sequences > kMaxSequences) {
    return WrongLength(tensor, ".shape: got ", layout.num_sequences, " sequences, wanted at most ",
                       kMaxSequences);
  }
  const bool ragged = layout.padded_len == 0;
  if (lens.empty() && ragged && layout.num_sequences != 1) {
    return WrongLength(field, ": got none, wanted ", layout.num_sequences,
                       ", one for each sequence of query");
  }
  if (lens.empty())
    return std::vector<int64_t>(layout.num_sequences, ragged ? layout.rows : layout.padded_len);
  if (static_cast<int64_t>(lens.size()) != layout.num_sequences) {
    return WrongLength(field, ": got ", lens.size(), ", wanted ", layout.num_sequences,
                       ", one for each sequence");
  }
  const int64_t longest = ragged ? layout.rows : layout.padded_len;
  int64_t sum = 0;
  for (size_t i = 0; i < lens.size(); ++i) {
    if (lens[i] < 1 || lens[i] > longest) {
      return WrongLength(field, "[", i, "]: got ", lens[i], ", wanted 1 to ", longest);
    }
    sum += lens[i];  // at most (bytes of the message)^2: no overflow
  }
  if (ragged && sum != layout.rows) {
    return WrongLength(field, ": they sum to ", sum, ", wanted the ", layout.rows, " rows of ", tensor);
  }
  return std::vector<int64_t>(lens.begin(), lens.end());
}

int64_t MaxLen(const SequenceLayout& layout, std::span<const int64_t> lens) {
  return layout.padded_len != 0 ? layout.padded_len : *std::max_element(lens.begin(), lens.end());
}

}  // namespace headlight
