// SPDX-License-Identifier: Apache-2.0
//
// Token ids and token types of a request: read once, from wherever the network left them, and checked on the
// way.
#ifndef HEADLIGHT_SERVER_REQUEST_TOKEN_IDS_H_
#define HEADLIGHT_SERVER_REQUEST_TOKEN_IDS_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/request/sequence_layout.h"
#include "server/wire/wire_tensor.h"

namespace headlight {

// The element types in which ids travel.
inline constexpr DType kIdTypes[] = {DType::kI32, DType::kI64};

// The ids of `tensor`, [batch, seq_len] or [tokens] as `layout` says, of sequences of the lengths `lens`,
// without padding. INVALID_ARGUMENT: one that is not in [0, limit); the message names its position and its
// value. `limit` is at most 2^31. What is padding is not looked at.
absl::StatusOr<std::vector<int32_t>> ReadIds(const std::string& field, const WireTensor& tensor,
                                             const SequenceLayout& layout, std::span<const int64_t> lens,
                                             int64_t limit);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_REQUEST_TOKEN_IDS_H_
