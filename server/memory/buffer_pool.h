// SPDX-License-Identifier: Apache-2.0
//
// Memory that batches use again and again. Replies in flight hold on to the batch's output after the batch is
// over, so buffers come back whenever the last reader lets go.
#ifndef HEADLIGHT_SERVER_MEMORY_BUFFER_POOL_H_
#define HEADLIGHT_SERVER_MEMORY_BUFFER_POOL_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "core/tensor/buffer.h"
#include "server/memory/memory_budget.h"

namespace headlight {

// A buffer and the lease of its bytes. Its size stays as it is: no Reserve.
class PooledBuffer : public Buffer {
 public:
  PooledBuffer(Buffer buffer, Lease lease) : Buffer(std::move(buffer)), lease_(std::move(lease)) {}

  // What its bytes count as from now on, such as kReply once it is handed out. One thread at a time.
  void Relabel(MemoryKind kind) { lease_.Relabel(kind); }

 private:
  friend class BufferPool;
  Lease lease_;  // of nothing where the pool has no budget
};

// Thread-safe. Buffers may outlive the pool; they are then freed. Buffers that are out count as kBatch, idle
// ones as kWorkspace; when the budget is short of room it gets the idle ones back.
class BufferPool {
 public:
  // Keeps at most max_idle_bytes for later; what comes back beyond that is freed. Without a budget nothing is
  // counted. `budget`, if there is one, must outlive the pool.
  explicit BufferPool(int64_t max_idle_bytes, MemoryBudget* budget = nullptr);
  ~BufferPool();

  // At least size_bytes bytes, contents unspecified, and of an idle buffer never more than twice as much (or
  // kSmallBytes): a small result that waits for its reader must not keep a large buffer from others. Null
  // when memory or the budget is short.
  std::shared_ptr<PooledBuffer> Acquire(int64_t size_bytes);

  // As Acquire; a new buffer takes what it can of `lease`, which shrinks by that, and the rest from the
  // budget. So a request's buffers take over what was reserved for it when it was admitted.
  std::shared_ptr<PooledBuffer> Acquire(int64_t size_bytes, Lease& lease);

  // Frees what has lain idle since the Trim before this one. Called every second or so it gives back what
  // only a burst needed. Returns the bytes freed.
  int64_t Trim();

  // Frees idle buffers, those that rest longest first, until at most max_idle_bytes are left. Returns the
  // bytes freed.
  int64_t ShrinkTo(int64_t max_idle_bytes);

  int64_t idle_bytes() const;

  static constexpr int64_t kSmallBytes = 4096;  // a page: below that nothing is gained by being exact

 private:
  class Idle;

  std::shared_ptr<PooledBuffer> AcquireFrom(int64_t size_bytes, Lease* lease);
  std::unique_ptr<PooledBuffer> NewBuffer(int64_t size_bytes, Lease* lease);

  MemoryBudget* const budget_;
  std::shared_ptr<Idle> idle_;  // shared with the buffers that are out
  std::shared_ptr<const MemoryBudget::Reclaimer> reclaimer_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MEMORY_BUFFER_POOL_H_
