// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/connection_conduct.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace headlight {

bool ConnectionConduct::IsAbuse(CallEnding ending, TimePoint now) {
  if (ending == CallEnding::kCancelled) return false;
  const std::lock_guard lock(mutex_);
  if (ending == CallEnding::kAnswered) {
    allowed_ = std::min(kBurst, allowed_ + kPerAnswer);
    return false;
  }
  const double passed_s = std::chrono::duration<double>(now - refilled_).count();
  refilled_ = now;
  allowed_ = std::min(kBurst, allowed_ + std::max(0.0, passed_s) * kPerSecond) - 1;
  return allowed_ < 0;
}

bool ConnectionConduct::Condemn() {
  const std::lock_guard lock(mutex_);
  return !std::exchange(condemned_, true);
}

}  // namespace headlight
