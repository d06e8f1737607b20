// SPDX-License-Identifier: Apache-2.0
//
// The tokens that open this server, and whom each of them stands for: where a token's rights are looked up.
#ifndef HEADLIGHT_SERVER_SECURITY_TOKEN_TABLE_H_
#define HEADLIGHT_SERVER_SECURITY_TOKEN_TABLE_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/models/model_rights.h"
#include "server/security/identity.h"
#include "server/security/token_hash.h"

namespace headlight {

// What an operator grants to whoever has a token.
struct TokenTerms {
  std::string name;
  TokenHash sha256 = {};
  std::string tenant;
  double weight = 1;  // of the tenant: the same in all of its tokens
  ModelRights models = ModelRights::All();
  std::optional<double> compute_seconds_per_second;  // predicted; none: any
  bool model_control = false;

  friend bool operator==(const TokenTerms&, const TokenTerms&) = default;
};

// Immutable.
class TokenTable {
 public:
  // Names and hashes are unique. Tokens that `before` has with the same rate go on with what they have used
  // of it.
  explicit TokenTable(std::vector<TokenTerms> terms, const TokenTable* before = nullptr);

  // Whom `token` stands for; null: nobody. Takes as long for every token of its length: its hash is compared
  // with all, whole, whatever is found on the way. `compare` is CRYPTO_memcmp but in tests.
  using Compare = int (*)(const void* a, const void* b, size_t num_bytes);
  std::shared_ptr<const Identity> Find(absl::string_view token) const;
  std::shared_ptr<const Identity> Find(absl::string_view token, Compare compare) const;

  const std::vector<TokenTerms>& terms() const { return terms_; }

 private:
  std::shared_ptr<RateLimit> RateOf(const TokenTerms& terms) const;  // null: it has none

  std::vector<TokenTerms> terms_;
  std::vector<std::shared_ptr<const Identity>> identities_;  // of terms_
};

// "2 added (a, b), 1 changed (c), 1 removed (d)", naming not too many; "nothing has changed".
std::string DescribeChanges(const TokenTable& before, const TokenTable& after);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_TOKEN_TABLE_H_
