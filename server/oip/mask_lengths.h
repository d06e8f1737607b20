// SPDX-License-Identifier: Apache-2.0
//
// Lists of numbers among a request's inputs: lengths, positions, and tokenizers' masks, which are lengths
// written out.
#ifndef HEADLIGHT_SERVER_OIP_MASK_LENGTHS_H_
#define HEADLIGHT_SERVER_OIP_MASK_LENGTHS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/wire/wire_tensor.h"

namespace headlight {

// The numbers of a checked I32 or I64 tensor.
std::vector<int64_t> NumbersOf(const WireTensor& tensor);

// The number of ones in each row of a mask [batch, seq_len] of I64, I32 or BOOL whose ones come first.
// INVALID_ARGUMENT naming `field`: another number, a row without ones, a one behind a zero.
absl::StatusOr<std::vector<int64_t>> LengthsOfMask(const char* field, const WireTensor& mask);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_MASK_LENGTHS_H_
