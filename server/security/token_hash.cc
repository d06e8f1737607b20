// SPDX-License-Identifier: Apache-2.0
#include "server/security/token_hash.h"

#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace headlight {

TokenHash HashToken(absl::string_view token) {
  TokenHash hash = {};
  static_assert(sizeof(hash) == SHA256_DIGEST_LENGTH);
  SHA256(static_cast<const unsigned char*>(static_cast<const void*>(token.data())), token.size(),
         hash.data());
  return hash;
}

std::string ToHex(const TokenHash& hash) {
  return absl::BytesToHexString(std::string(hash.begin(), hash.end()));
}

std::optional<TokenHash> FromHex(absl::string_view digits) {
  TokenHash hash = {};
  if (digits.size() != 2 * hash.size() || !std::all_of(digits.begin(), digits.end(), [](char c) {
        return absl::ascii_isxdigit(static_cast<unsigned char>(c));
      })) {
    return std::nullopt;
  }
  const char* digit = digits.data();
  for (uint8_t& byte : hash) {
    std::from_chars(digit, digit + 2, byte, 16);
    digit += 2;
  }
  return hash;
}

absl::Status CheckToken(absl::string_view token) {
  if (token.size() < kMinTokenBytes || token.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the token: got ", token.size(), " bytes, wanted ",
                                                   kMinTokenBytes, " to ", kMaxTokenBytes));
  }
  if (!std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < '\x7f'; })) {
    return absl::InvalidArgumentError(
        "the token: got characters that a header cannot carry, wanted printable ASCII without spaces");
  }
  return absl::OkStatus();
}

}  // namespace headlight
