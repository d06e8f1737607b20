// SPDX-License-Identifier: Apache-2.0
//
// So much of something at once, and so much more a second.
#ifndef HEADLIGHT_SERVER_RPC_ALLOWANCE_H_
#define HEADLIGHT_SERVER_RPC_ALLOWANCE_H_

#include <algorithm>
#include <chrono>

#include "server/schedule/clock.h"

namespace headlight {

// Not thread-safe.
class Allowance {
 public:
  Allowance(double burst, double per_second, TimePoint now)
      : burst_(burst), per_second_(per_second), left_(burst), refilled_(now) {}

  // False: that is more than is allowed. What was taken too much counts as a debt.
  bool Take(TimePoint now, double amount) {
    const double passed_s = std::max(0.0, std::chrono::duration<double>(now - refilled_).count());
    refilled_ = std::max(refilled_, now);
    left_ = std::min(burst_, left_ + passed_s * per_second_) - amount;
    return left_ >= 0;
  }

  void Grant(double amount) { left_ = std::min(burst_, left_ + amount); }

  // No debt any more.
  void Forgive() { left_ = std::max(0.0, left_); }

 private:
  const double burst_;
  const double per_second_;
  double left_;
  TimePoint refilled_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_ALLOWANCE_H_
