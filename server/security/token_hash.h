// SPDX-License-Identifier: Apache-2.0
//
// What the server keeps of a token: its SHA-256. Tokens are random and long, so nothing slower is needed.
#ifndef HEADLIGHT_SERVER_SECURITY_TOKEN_HASH_H_
#define HEADLIGHT_SERVER_SECURITY_TOKEN_HASH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace headlight {

// Shorter ones could be guessed; longer ones would let strangers choose what refusing them costs.
inline constexpr size_t kMinTokenBytes = 16;
inline constexpr size_t kMaxTokenBytes = 1024;

using TokenHash = std::array<uint8_t, 32>;

TokenHash HashToken(absl::string_view token);

// 64 hexadecimal digits, in lower case; read in either.
std::string ToHex(const TokenHash& hash);
std::optional<TokenHash> FromHex(absl::string_view digits);

// INVALID_ARGUMENT, which does not tell the token: it is too short or too long, or has characters that
// cannot travel in a header.
absl::Status CheckToken(absl::string_view token);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_TOKEN_HASH_H_
