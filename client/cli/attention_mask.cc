// SPDX-License-Identifier: Apache-2.0
#include "client/cli/attention_mask.h"

#include <algorithm>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/tensor.h"

namespace headlight::client {

absl::StatusOr<std::vector<int64_t>> LengthsOfAttentionMask(std::span<const int64_t> mask_shape,
                                                            std::span<const int64_t> mask,
                                                            std::span<const int64_t> input_shape) {
  if (input_shape.size() < 2 || mask_shape.size() != 2 ||
      !std::equal(mask_shape.begin(), mask_shape.end(), input_shape.begin())) {
    return absl::InvalidArgumentError(absl::StrCat("got shape ", ToString(mask_shape),
                                                   ", wanted [batch, seq_len] of an input of shape ",
                                                   ToString(input_shape)));
  }
  std::vector<int64_t> lengths;
  const auto seq_len = static_cast<size_t>(mask_shape[1]);
  for (int64_t sequence = 0; sequence < mask_shape[0]; ++sequence) {
    const auto row = mask.subspan(static_cast<size_t>(sequence) * seq_len, seq_len);
    const auto wrong = [&](const char* got, const auto& place, const char* wanted) {
      return absl::InvalidArgumentError(
          absl::StrCat("sequence ", sequence, ": got ", got, place, ", wanted ", wanted));
    };
    const auto odd =
        std::find_if(row.begin(), row.end(), [](int64_t value) { return value != 0 && value != 1; });
    if (odd != row.end()) return wrong("", *odd, "1 for a token and 0 for padding");
    const auto end = std::find(row.begin(), row.end(), 0);
    if (end == row.begin())
      return wrong("padding at its first place", "", "tokens first: padding_side=\"right\"");
    const auto late = std::find(end, row.end(), 1);
    if (late != row.end()) {
      return wrong("padding before the token at place ", late - row.begin(),
                   "padding behind all tokens: padding_side=\"right\"");
    }
    lengths.push_back(end - row.begin());
  }
  return lengths;
}

}  // namespace headlight::client
