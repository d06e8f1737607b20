// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/retry_budget.h"

#include <cmath>

namespace headlight::client {

void RetryBudget::NoteCall(Time now) {
  const std::lock_guard lock(mutex_);
  Age(now);
  balance_ += ratio_;
}

bool RetryBudget::TakeRetry(Time now) {
  const std::lock_guard lock(mutex_);
  Age(now);
  if (balance_ + reserve_ < 1) return false;
  balance_ -= 1;
  ++retries_;
  return true;
}

void RetryBudget::NoteFreeRetry() {
  const std::lock_guard lock(mutex_);
  ++retries_;
}

void RetryBudget::GiveBackRetry() {
  const std::lock_guard lock(mutex_);
  balance_ += 1;
  --retries_;
}

int64_t RetryBudget::retries() const {
  const std::lock_guard lock(mutex_);
  return retries_;
}

void RetryBudget::Age(Time now) {
  if (now <= aged_at_) return;  // threads are not in order
  balance_ *= std::exp(-std::chrono::duration<double>(now - aged_at_) / kMemory);
  aged_at_ = now;
}

}  // namespace headlight::client
