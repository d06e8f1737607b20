// SPDX-License-Identifier: Apache-2.0
//
// The file of --tokens: TOML, one [[token]] each.
#ifndef HEADLIGHT_SERVER_SECURITY_TOKEN_FILE_H_
#define HEADLIGHT_SERVER_SECURITY_TOKEN_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/security/token_table.h"

namespace headlight {

inline constexpr size_t kMaxTokens = 1024;

// INVALID_ARGUMENT, or why the file cannot be read: names the file, the line, the key, what it got and what
// it wanted, and never what a token or its hash is.
absl::StatusOr<std::vector<TokenTerms>> ReadTokenFile(const std::string& path);

// The same of a file's text.
absl::StatusOr<std::vector<TokenTerms>> ParseTokens(const std::string& text, const std::string& path);

// A [[token]] that ParseTokens reads; what is as by default is left out.
std::string WriteToken(const TokenTerms& terms);

// INVALID_ARGUMENT: a name of a token or a tenant that would not do in a log or a metric.
absl::Status CheckTokenName(const std::string& name);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_TOKEN_FILE_H_
