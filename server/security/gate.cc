// SPDX-License-Identifier: Apache-2.0
#include "server/security/gate.h"

#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace headlight {
namespace {

constexpr char kHeader[] = "authorization";
constexpr char kScheme[] = "bearer ";

// Nothing: the headers have none, or it is unclear which.
std::optional<absl::string_view> BearerTokenOf(const CallHeaders& headers) {
  const auto [first, last] = headers.equal_range(kHeader);
  if (first == last || std::next(first) != last) return std::nullopt;
  const absl::string_view value(first->second.data(), first->second.size());
  if (!absl::StartsWithIgnoreCase(value, kScheme)) return std::nullopt;
  const absl::string_view token = value.substr(sizeof(kScheme) - 1);
  if (token.size() > kMaxTokenBytes) return std::nullopt;
  return token;
}

}  // namespace

Gate::Gate(bool anybody_may_control_models)
    : anybody_(std::make_shared<const Identity>(
          Identity{.models = ModelRights::All(), .may_control_models = anybody_may_control_models})) {}

void Gate::SetTokens(std::shared_ptr<const TokenTable> tokens) {
  const std::lock_guard lock(mutex_);
  tokens_.swap(tokens);
}

std::shared_ptr<const TokenTable> Gate::tokens() const {
  const std::lock_guard lock(mutex_);
  return tokens_;
}

absl::StatusOr<std::shared_ptr<const Identity>> Gate::Admit(const CallHeaders& headers) const {
  const std::shared_ptr<const TokenTable> table = tokens();
  if (table == nullptr) return anybody_;
  const std::optional<absl::string_view> token = BearerTokenOf(headers);
  std::shared_ptr<const Identity> identity = token ? table->Find(*token) : nullptr;
  if (identity != nullptr) return identity;
  num_refused_.fetch_add(1, std::memory_order_relaxed);
  return absl::UnauthenticatedError("the call needs a valid bearer token");
}

}  // namespace headlight
