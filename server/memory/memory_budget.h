// SPDX-License-Identifier: Apache-2.0
//
// Who holds how many bytes, of one budget. Whatever takes memory on behalf of a request or a model takes a
// lease first; where there is no room the request is refused or waits, and nothing was allocated.
#ifndef HEADLIGHT_SERVER_MEMORY_MEMORY_BUDGET_H_
#define HEADLIGHT_SERVER_MEMORY_MEMORY_BUDGET_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace headlight {

enum class MemoryKind : uint8_t {
  kMessage,    // received, or about to be
  kQueue,      // what an admitted request will take once it is computed
  kBatch,      // inputs and outputs of batches that are computed
  kReply,      // results until gRPC has sent them
  kWorkspace,  // what is kept from one batch to the next
  kModel,      // weights, and what loading them takes meanwhile
};
inline constexpr int kNumMemoryKinds = 6;

// "message", "queue", ...: labels of metrics.
const char* Name(MemoryKind kind);

// Bytes. Models and requests (all other kinds) each have a share that the other cannot take: requests may
// hold limit - max(models_reserved, what models hold), and models the same the other way round.
struct MemoryShares {
  int64_t limit = 0;
  int64_t models_reserved = 0;
  int64_t requests_reserved = 0;  // limit >= models_reserved + requests_reserved
};

class MemoryBudget;

// Bytes that are taken from the budget until this is gone. Move-only, not thread-safe by itself. It may
// outlive the MemoryBudget.
class Lease {
 public:
  Lease() = default;  // of nothing
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;  // gives back what it held before
  ~Lease();

  int64_t bytes() const { return bytes_; }
  MemoryKind kind() const { return kind_; }

  // Down always; up if there is room. False: no room, nothing has changed.
  bool Resize(int64_t bytes);

  // Takes `bytes` of these off into a lease of their own, of the same kind. Requires 0 <= bytes <= bytes().
  Lease Split(int64_t bytes);

  // Takes over what `other` holds, of the same budget, as bytes of this one's kind. One that is of nothing
  // becomes `other`.
  void Absorb(Lease other);

  // The same bytes under another kind. Models' bytes stay models', and requests' stay requests'.
  void Relabel(MemoryKind kind);

  void Release() { Resize(0); }

 private:
  friend class MemoryBudget;
  class State;
  Lease(std::shared_ptr<State> state, MemoryKind kind, int64_t bytes);

  std::shared_ptr<State> state_;  // null: of nothing
  MemoryKind kind_ = MemoryKind::kMessage;
  int64_t bytes_ = 0;
};

// Thread-safe. Never calls anything of others under its lock.
class MemoryBudget {
 public:
  // All of it for requests, until models take some.
  explicit MemoryBudget(int64_t limit_bytes);
  explicit MemoryBudget(const MemoryShares& shares);
  ~MemoryBudget();

  // Nothing if there is no room, also after every reclaimer was asked. Takes nothing ahead of anybody in
  // WhenRoom's line, and yet does not wait for it: who holds memory already finishes before others begin.
  std::optional<Lease> TryReserve(MemoryKind kind, int64_t bytes);

  // As TryReserve, with words for the caller: NeverFits, or RESOURCE_EXHAUSTED saying both numbers.
  absl::StatusOr<Lease> Reserve(MemoryKind kind, int64_t bytes);

  // Whether a server without any other request could hold a request of so many bytes. INVALID_ARGUMENT saying
  // both numbers. It depends on what models hold now, loading ones included, as far as that passes their
  // reserved share.
  absl::Status NeverFits(int64_t bytes) const;

  using OnRoom = absl::AnyInvocable<void(absl::StatusOr<Lease>) &&>;

  // For kinds of requests. Calls `on_room` once, with a lease, as soon as there is room and all who asked
  // before have theirs: perhaps before this returns, else from a thread that gives memory back, which it must
  // not hold up. It must not throw. It gets
  // NeverFits' error where no waiting helps, also when models have grown meanwhile. Returns what CancelWait
  // takes. Waits that are left when the budget goes are dropped without a call.
  uint64_t WhenRoom(MemoryKind kind, int64_t bytes, OnRoom on_room);

  // True: `on_room` will not be called any more. False: it was called, or is about to be.
  bool CancelWait(uint64_t wait);

  // Whether anybody is in WhenRoom's line: what is not used had better be given back.
  bool IsAwaited() const;

  // Asked for memory that is held but not used, when there is no room: gives back at least `bytes` if it can,
  // by letting go of leases. Called from any thread. Forgotten when the last owner lets go of it.
  using Reclaimer = std::function<void(int64_t bytes)>;
  void AddReclaimer(const std::shared_ptr<const Reclaimer>& reclaimer);

  int64_t Held(MemoryKind kind) const;
  int64_t held() const;       // of all kinds
  int64_t peak_held() const;  // the most since the start or ResetPeak
  void ResetPeak();
  int64_t limit() const;

  // What requests could hold if there were no others, and models.
  int64_t limit_of_requests() const;
  int64_t limit_of_models() const;

 private:
  std::shared_ptr<Lease::State> state_;  // shared with the leases
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MEMORY_MEMORY_BUDGET_H_
