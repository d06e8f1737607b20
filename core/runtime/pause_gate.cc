// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/pause_gate.h"

#include <algorithm>

#include "core/runtime/idle_calls.h"

namespace headlight {

void PauseGate::Close() {
  const std::lock_guard lock(mutex_);
  state_.fetch_or(kPaused);
}

void PauseGate::Pause() {
  std::unique_lock lock(mutex_);
  state_.fetch_or(kPaused);
  left_.wait(lock, [&] { return IsEmpty() || !IsPaused(); });
}

void PauseGate::Resume() {
  {
    const std::lock_guard lock(mutex_);
    state_.fetch_and(~kPaused);
  }
  opened_.notify_all();
  left_.notify_all();
}

void PauseGate::SetWatched(bool watched) {
  if (watched) {
    state_.fetch_or(kWatched);
  } else {
    state_.fetch_and(~kWatched);
  }
}

void PauseGate::Enter(int slot) {
  for (;;) {
    slots_[slot].inside.fetch_add(1);
    if (!IsPaused()) return;
    Leave(slot);
    WaitUntilOpen();
  }
}

void PauseGate::Leave(int slot) {
  slots_[slot].inside.fetch_sub(1);
  if (IsPaused()) TellPauser();
}

void PauseGate::WaitUntilOpen() {
  GoIdle();
  std::unique_lock lock(mutex_);
  opened_.wait(lock, [&] { return !IsPaused(); });
}

bool PauseGate::IsEmpty() const {
  return std::all_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.inside.load() == 0; });
}

void PauseGate::TellPauser() {
  // Through the lock: the pauser is either before its look at the counts, or asleep.
  { const std::lock_guard lock(mutex_); }
  left_.notify_all();
}

}  // namespace headlight
