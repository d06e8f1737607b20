// SPDX-License-Identifier: Apache-2.0
//
// Holds work up without ending it: whoever is inside parks where it next asks, nobody new gets in, and all go
// on from there later.
#ifndef HEADLIGHT_CORE_RUNTIME_PAUSE_GATE_H_
#define HEADLIGHT_CORE_RUNTIME_PAUSE_GATE_H_

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <vector>

namespace headlight {

// Thread-safe. Who passes through says which slot it has; threads may share one, but each slot has a cache
// line of its own, so that those that do not share one do not wait for each other's.
class PauseGate {
 public:
  explicit PauseGate(int num_slots) : slots_(num_slots) {}
  PauseGate(const PauseGate&) = delete;
  PauseGate& operator=(const PauseGate&) = delete;

  // Whether nothing is wanted of those inside: the gate is open and unwatched. One relaxed load.
  bool quiet() const { return state_.load(std::memory_order_relaxed) == 0; }
  bool paused() const { return (state_.load(std::memory_order_relaxed) & kPaused) != 0; }

  // Says no to quiet() from now on, or no longer, and does nothing else.
  void SetWatched(bool watched);

  // Closes the gate and does not wait for those inside.
  void Close();

  // Closes the gate and waits until nobody is inside, or until somebody else opens it again. What those
  // inside have written is then visible to the caller. Closing a closed gate only waits.
  void Pause();

  // Opens the gate: all that wait go on, and see what the caller has written. An open gate stays open.
  void Resume();

  // Gets inside, as soon as the gate is open.
  void Enter(int slot);
  void Leave(int slot);

  // Waits until the gate is open, without getting inside.
  void WaitUntilOpen();

 private:
  struct alignas(64) Slot {
    std::atomic<int> inside{0};
  };

  enum State : int { kPaused = 1, kWatched = 2 };

  bool IsPaused() const { return (state_.load() & kPaused) != 0; }
  bool IsEmpty() const;
  void TellPauser();

  // Whoever gets inside first counts itself and then looks at the state; whoever pauses first sets the state
  // and then looks at the counts. Both in sequentially consistent order, so that one of the two sees the
  // other.
  std::atomic<int> state_{0};
  std::vector<Slot> slots_;
  std::mutex mutex_;  // of the two below; and kPaused changes under it, so that no waiting thread misses it
  std::condition_variable left_;
  std::condition_variable opened_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_PAUSE_GATE_H_
