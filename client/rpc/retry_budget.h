// SPDX-License-Identifier: Apache-2.0
//
// How many retries all calls of a client may make together. Servers in trouble must not get several times the
// load that brought them there.
#ifndef HEADLIGHT_CLIENT_RPC_RETRY_BUDGET_H_
#define HEADLIGHT_CLIENT_RPC_RETRY_BUDGET_H_

#include <chrono>
#include <cstdint>
#include <mutex>

#include "client/retry.h"

namespace headlight::client {

// An account to which each call pays in RetryOptions::budget_ratio and from which each retry takes 1. What is
// on it, or owed, loses its weight with a time constant of kMemory, so that only recent calls count.
// Thread-safe.
class RetryBudget {
 public:
  using Time = std::chrono::steady_clock::time_point;

  static constexpr std::chrono::seconds kMemory{10};

  explicit RetryBudget(const RetryOptions& options)
      : ratio_(options.budget_ratio), reserve_(options.budget_reserve) {}

  void NoteCall(Time now);  // when it begins

  // Whether there may be a retry, which then counts.
  bool TakeRetry(Time now);

  // One that costs nobody anything, and only counts.
  void NoteFreeRetry();

  // One that was taken did not take place.
  void GiveBackRetry();

  int64_t retries() const;  // taken so far

 private:
  void Age(Time now);  // with mutex_ held

  const double ratio_;
  const double reserve_;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  double balance_ = 0;  // at aged_at_, of at least -reserve_
  Time aged_at_;
  int64_t retries_ = 0;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_RETRY_BUDGET_H_
