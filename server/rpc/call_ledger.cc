// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/call_ledger.h"

namespace headlight {
namespace {

constexpr int64_t kStartingDelayUs = 500'000;

}  // namespace

Refusal ShuttingDown() {
  return {absl::UnavailableError("the server is shutting down"), kReasonDraining, /*retry_after_us=*/0};
}

std::optional<Refusal> CallLedger::Add(LedgerEntry& entry) {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kStarting) {
    return Refusal{absl::UnavailableError("the server is starting: its models are being loaded"), "",
                   kStartingDelayUs};
  }
  if (phase_ == Phase::kEnding) return ShuttingDown();
  entries_.insert(&entry);
  return std::nullopt;
}

void CallLedger::Open() {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kStarting) phase_ = Phase::kOpen;
}

void CallLedger::Remove(LedgerEntry& entry) {
  const std::lock_guard lock(mutex_);
  entries_.erase(&entry);
  if (entries_.empty()) idle_.notify_all();
}

void CallLedger::EndUnread(TimePoint since) {
  const std::lock_guard lock(mutex_);
  for (LedgerEntry* entry : entries_) entry->EndIfUnread(since);
}

void CallLedger::EndAll() {
  const std::lock_guard lock(mutex_);
  phase_ = Phase::kEnding;
  for (LedgerEntry* entry : entries_) entry->End();
}

bool CallLedger::WaitUntilIdle(std::chrono::steady_clock::duration timeout) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, timeout, [this] { return entries_.empty(); });
}

int64_t CallLedger::num_calls() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(entries_.size());
}

}  // namespace headlight
