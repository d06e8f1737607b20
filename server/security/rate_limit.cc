// SPDX-License-Identifier: Apache-2.0
#include "server/security/rate_limit.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace headlight {
namespace {

constexpr double kBurstS = 1;

}  // namespace

std::optional<int64_t> RateLimit::Take(TimePoint now, double seconds) {
  const std::lock_guard lock(mutex_);
  // Requests that arrive at the same time may come here in either order: time never goes back.
  if (now > updated_at_) {
    const double elapsed_s = std::chrono::duration<double>(now - updated_at_).count();
    balance_s_ = std::min(balance_s_ + elapsed_s * rate_, kBurstS * rate_);
    updated_at_ = now;
  }
  if (balance_s_ <= 0) return 1 + static_cast<int64_t>(std::ceil(-balance_s_ / rate_ * 1e6));
  balance_s_ -= seconds;
  return std::nullopt;
}

void RateLimit::GiveBack(double seconds) {
  const std::lock_guard lock(mutex_);
  balance_s_ = std::min(balance_s_ + seconds, kBurstS * rate_);
}

}  // namespace headlight
