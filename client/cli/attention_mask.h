// SPDX-License-Identifier: Apache-2.0
//
// The attention_mask that tokenizers make, as the lengths that a request has in its place.
#ifndef HEADLIGHT_CLIENT_CLI_ATTENTION_MASK_H_
#define HEADLIGHT_CLIENT_CLI_ATTENTION_MASK_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace headlight::client {

// Of `mask` [batch, seq_len], 1 where there is a token and 0 where there is padding: how many tokens each
// sequence has. The input has the same two dimensions, perhaps before others. INVALID_ARGUMENT, without the
// array's name: other shapes, other values, padding in front of tokens, a sequence without any.
absl::StatusOr<std::vector<int64_t>> LengthsOfAttentionMask(std::span<const int64_t> mask_shape,
                                                            std::span<const int64_t> mask,
                                                            std::span<const int64_t> input_shape);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_CLI_ATTENTION_MASK_H_
