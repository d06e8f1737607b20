// SPDX-License-Identifier: Apache-2.0
#include "server/security/token_table.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/text.h"

namespace headlight {
namespace {

const TokenTerms* FindByName(const TokenTable& table, const std::string& name) {
  const auto found = std::find_if(table.terms().begin(), table.terms().end(),
                                  [&](const TokenTerms& terms) { return terms.name == name; });
  return found == table.terms().end() ? nullptr : &*found;
}

}  // namespace

uint64_t CallerIdOf(const std::string& tenant) {
  const TokenHash hash = HashToken(tenant);
  uint64_t id = 0;
  std::memcpy(&id, hash.data(), sizeof(id));
  return std::max<uint64_t>(id, 1);
}

TokenTable::TokenTable(std::vector<TokenTerms> terms, const TokenTable* before) : terms_(std::move(terms)) {
  for (const TokenTerms& granted : terms_) {
    std::shared_ptr<RateLimit> rate = before == nullptr ? nullptr : before->RateOf(granted);
    if (rate == nullptr && granted.compute_seconds_per_second) {
      rate = std::make_shared<RateLimit>(*granted.compute_seconds_per_second);
    }
    identities_.push_back(
        std::make_shared<const Identity>(Identity{granted.name,
                                                  granted.tenant,
                                                  {CallerIdOf(granted.tenant), granted.weight},
                                                  granted.models,
                                                  granted.model_control,
                                                  std::move(rate)}));
  }
}

std::shared_ptr<RateLimit> TokenTable::RateOf(const TokenTerms& terms) const {
  for (const auto& identity : identities_) {
    if (identity->name != terms.name || identity->rate == nullptr) continue;
    const bool same = identity->rate->seconds_per_second() == terms.compute_seconds_per_second;
    return same ? identity->rate : nullptr;
  }
  return nullptr;
}

std::shared_ptr<const Identity> TokenTable::Find(absl::string_view token) const {
  return Find(token, CRYPTO_memcmp);
}

std::shared_ptr<const Identity> TokenTable::Find(absl::string_view token, Compare compare) const {
  const TokenHash hash = HashToken(token);
  size_t found = 0;  // one more than the place of the entry; names no entry twice, for hashes are unique
  for (size_t i = 0; i < terms_.size(); ++i) {
    // Half by half: OpenSSL compares 16 bytes in two words, and any other number byte by byte.
    constexpr size_t kHalf = std::tuple_size_v<TokenHash> / 2;
    const uint8_t* const known = terms_[i].sha256.data();
    const int front = compare(known, hash.data(), kHalf);
    const int back = compare(known + kHalf, hash.data() + kHalf, kHalf);
    const auto equal = static_cast<size_t>((front | back) == 0);
    found += equal * (i + 1);
  }
  return found == 0 ? nullptr : identities_[found - 1];
}

std::string DescribeChanges(const TokenTable& before, const TokenTable& after) {
  std::vector<std::string> added, changed, removed, parts;
  for (const TokenTerms& terms : after.terms()) {
    const TokenTerms* old = FindByName(before, terms.name);
    if (old == nullptr) {
      added.push_back(terms.name);
    } else if (*old != terms) {
      changed.push_back(terms.name);
    }
  }
  for (const TokenTerms& terms : before.terms()) {
    if (FindByName(after, terms.name) == nullptr) removed.push_back(terms.name);
  }
  const auto tell = [&](const std::vector<std::string>& names, const char* what) {
    if (!names.empty()) parts.push_back(absl::StrCat(names.size(), " ", what, " (", Listed(names), ")"));
  };
  tell(added, "added");
  tell(changed, "changed");
  tell(removed, "removed");
  return parts.empty() ? "nothing has changed" : absl::StrJoin(parts, ", ");
}

}  // namespace headlight
