// SPDX-License-Identifier: Apache-2.0
//
// How the sequences of one tensor lie, in the two forms of attention.proto, and their lengths.
#ifndef HEADLIGHT_SERVER_REQUEST_SEQUENCE_LAYOUT_H_
#define HEADLIGHT_SERVER_REQUEST_SEQUENCE_LAYOUT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace headlight {

// `num_sequences` of them, each padded to `padded_len` rows (the dense form) or one after the other (ragged:
// padded_len is 0).
struct SequenceLayout {
  int64_t num_sequences = 0;
  int64_t padded_len = 0;
  int64_t rows = 0;  // all of them, padding included
};

// Of one request: its lists of lengths are made before its reply's size is known.
inline constexpr int64_t kMaxSequences = int64_t{1} << 20;

// Of a tensor whose leading dimensions, those before a row's own, are `dims`: [batch, seq_len] is dense,
// [tokens] ragged and holds `ragged_sequences`.
SequenceLayout LayoutOf(std::span<const int64_t> dims, int64_t ragged_sequences);

// Lengths of the sequences, checked: one each, within the padding or summing to the rows. An empty `lens`
// means full ones. INVALID_ARGUMENT otherwise; `field` and `tensor` are the names of the lengths and of what
// they measure, for messages.
absl::StatusOr<std::vector<int64_t>> SequenceLengths(const std::string& field, const std::string& tensor,
                                                     std::span<const int64_t> lens,
                                                     const SequenceLayout& layout);

// The padded length in the dense form, the longest one in the ragged form.
int64_t MaxLen(const SequenceLayout& layout, std::span<const int64_t> lens);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_SEQUENCE_LAYOUT_H_
