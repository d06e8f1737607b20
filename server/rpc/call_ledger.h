// SPDX-License-Identifier: Apache-2.0
//
// The exchanges under way: how many, and how all of them are brought to an end.
#ifndef HEADLIGHT_SERVER_RPC_CALL_LEDGER_H_
#define HEADLIGHT_SERVER_RPC_CALL_LEDGER_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "server/schedule/clock.h"
#include "server/schedule/ticket.h"

namespace headlight {

// Why a call does not begin, or reads nothing more, once the server is told to stop.
Refusal ShuttingDown();

// One that can be asked to end.
class LedgerEntry {
 public:
  virtual ~LedgerEntry() = default;
  // Reads nothing more, answers what it has read, then ends with UNAVAILABLE. Must not call the ledger.
  virtual void End() = 0;
  // Breaks off if a write that began before `since` is still under way. Must not call the ledger.
  virtual void EndIfUnread(TimePoint since) = 0;
};

// Thread-safe. Its lock is never taken while an entry's own is held.
class CallLedger {
 public:
  // `entry` stays until Remove, unless it may not begin: before Open and after EndAll. UNAVAILABLE says
  // which.
  std::optional<Refusal> Add(LedgerEntry& entry);
  void Remove(LedgerEntry& entry);

  // There are models to ask for: calls may begin.
  void Open();

  // Breaks off the calls of those who have not read a reply since then.
  void EndUnread(TimePoint since);

  // Ends what is under way, and lets nothing begin any more.
  void EndAll();

  // Waits until nothing is under way, statuses sent included; false if that takes longer than `timeout`.
  bool WaitUntilIdle(std::chrono::steady_clock::duration timeout);

  int64_t num_calls() const;

 private:
  enum class Phase { kStarting, kOpen, kEnding };

  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_set<LedgerEntry*> entries_;  // guarded by mutex_
  Phase phase_ = Phase::kStarting;            // guarded by mutex_
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_CALL_LEDGER_H_
