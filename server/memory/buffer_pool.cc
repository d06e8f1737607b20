// SPDX-License-Identifier: Apache-2.0
#include "server/memory/buffer_pool.h"

#include <algorithm>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace headlight {

// What lies idle, and how it comes there. Nothing in here throws but Take; nothing is freed under the lock,
// since giving a lease back may call others.
class BufferPool::Idle {
 public:
  Idle(int64_t max_bytes, MemoryBudget* budget) : max_bytes_(max_bytes), budget_(budget) {}

  // One that fits, or null; the caller gives it or a new one back by GiveBack, for which there is room from
  // now on. `evicted` gets one that makes room for a new one, if there is none that fits.
  std::unique_ptr<PooledBuffer> Take(int64_t size_bytes, std::unique_ptr<PooledBuffer>& evicted);

  void GiveBack(std::unique_ptr<PooledBuffer> buffer);
  void NothingTaken();  // after a Take of null that led to no buffer

  int64_t Free(int64_t bytes);  // at least so many, if there are
  int64_t Trim();
  void Close();  // keeps nothing any more
  int64_t bytes() const;

 private:
  struct Entry {
    std::unique_ptr<PooledBuffer> buffer;
    uint64_t order;   // of coming back
    uint64_t period;  // between two Trims
  };
  using Entries = std::vector<Entry>;

  std::unique_ptr<PooledBuffer> TakeOut(Entries::iterator entry);  // requires mutex_

  mutable std::mutex mutex_;
  Entries entries_;     // guarded by mutex_, as is all below; smallest first
  int64_t bytes_ = 0;   // in entries_
  size_t num_out_ = 0;  // entries_ has capacity for these as well, so that coming back cannot fail
  uint64_t order_ = 0;
  uint64_t period_ = 0;
  int64_t max_bytes_;
  MemoryBudget* budget_;  // null: none, or closed
};

std::unique_ptr<PooledBuffer> BufferPool::Idle::TakeOut(Entries::iterator entry) {
  std::unique_ptr<PooledBuffer> buffer = std::move(entry->buffer);
  entries_.erase(entry);
  bytes_ -= buffer->size_bytes();
  return buffer;
}

std::unique_ptr<PooledBuffer> BufferPool::Idle::Take(int64_t size_bytes,
                                                     std::unique_ptr<PooledBuffer>& evicted) {
  const std::lock_guard lock(mutex_);
  entries_.reserve(entries_.size() + num_out_ + 1);
  ++num_out_;
  const auto best = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.buffer->size_bytes() >= size_bytes;
  });
  if (best != entries_.end()) {
    // Halves rather than the double of what is asked, which might overflow.
    const int64_t best_bytes = best->buffer->size_bytes();
    if (best_bytes <= kSmallBytes || best_bytes / 2 <= size_bytes) return TakeOut(best);
  }
  // The smallest of all makes room, if it is too small, so that buffers that are hardly ever used do not pile
  // up.
  if (!entries_.empty() && best != entries_.begin()) evicted = TakeOut(entries_.begin());
  return nullptr;
}

void BufferPool::Idle::GiveBack(std::unique_ptr<PooledBuffer> buffer) {
  const std::lock_guard lock(mutex_);
  --num_out_;
  const int64_t bytes = buffer->size_bytes();
  // A buffer that is not kept is freed with the argument, which outlives the lock.
  if (bytes > max_bytes_ - bytes_ || (budget_ != nullptr && budget_->IsAwaited())) return;
  buffer->Relabel(MemoryKind::kWorkspace);
  bytes_ += bytes;
  const auto larger = std::find_if(entries_.begin(), entries_.end(),
                                   [&](const Entry& entry) { return entry.buffer->size_bytes() >= bytes; });
  entries_.insert(larger, Entry{std::move(buffer), ++order_, period_});
}

void BufferPool::Idle::NothingTaken() {
  const std::lock_guard lock(mutex_);
  --num_out_;
}

int64_t BufferPool::Idle::Free(int64_t bytes) {
  int64_t freed = 0;
  while (freed < bytes) {
    std::unique_ptr<PooledBuffer> longest;
    const std::lock_guard lock(mutex_);
    const auto entry = std::min_element(entries_.begin(), entries_.end(),
                                        [](const Entry& a, const Entry& b) { return a.order < b.order; });
    if (entry == entries_.end()) break;
    longest = TakeOut(entry);
    freed += longest->size_bytes();
  }
  return freed;
}

int64_t BufferPool::Idle::Trim() {
  int64_t freed = 0;
  uint64_t period = 0;
  {
    const std::lock_guard lock(mutex_);
    period = period_++;
  }
  while (true) {
    std::unique_ptr<PooledBuffer> old;
    const std::lock_guard lock(mutex_);
    const auto entry = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const Entry& other) { return other.period < period; });
    if (entry == entries_.end()) return freed;
    old = TakeOut(entry);
    freed += old->size_bytes();
  }
}

void BufferPool::Idle::Close() {
  {
    const std::lock_guard lock(mutex_);
    max_bytes_ = 0;
    budget_ = nullptr;
  }
  Free(INT64_MAX);
}

int64_t BufferPool::Idle::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

BufferPool::BufferPool(int64_t max_idle_bytes, MemoryBudget* budget)
    : budget_(budget), idle_(std::make_shared<Idle>(max_idle_bytes, budget)) {
  if (budget_ == nullptr) return;
  reclaimer_ =
      std::make_shared<const MemoryBudget::Reclaimer>([idle = idle_](int64_t bytes) { idle->Free(bytes); });
  budget_->AddReclaimer(reclaimer_);
}

BufferPool::~BufferPool() { idle_->Close(); }

std::shared_ptr<PooledBuffer> BufferPool::Acquire(int64_t size_bytes) {
  return AcquireFrom(size_bytes, nullptr);
}

std::shared_ptr<PooledBuffer> BufferPool::Acquire(int64_t size_bytes, Lease& lease) {
  return AcquireFrom(size_bytes, &lease);
}

std::shared_ptr<PooledBuffer> BufferPool::AcquireFrom(int64_t size_bytes, Lease* lease) {
  try {
    std::unique_ptr<PooledBuffer> evicted;
    std::unique_ptr<PooledBuffer> buffer = idle_->Take(size_bytes, evicted);
    evicted.reset();
    if (buffer == nullptr) buffer = NewBuffer(size_bytes, lease);
    if (buffer == nullptr) {
      idle_->NothingTaken();
      return nullptr;
    }
    buffer->Relabel(MemoryKind::kBatch);
    // Should this throw, it has called the deleter.
    return std::shared_ptr<PooledBuffer>(buffer.release(), [idle = idle_](PooledBuffer* returned) {
      idle->GiveBack(std::unique_ptr<PooledBuffer>(returned));
    });
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

std::unique_ptr<PooledBuffer> BufferPool::NewBuffer(int64_t size_bytes, Lease* lease) {
  Lease own;
  if (budget_ != nullptr) {
    if (lease != nullptr) own = lease->Split(std::min(size_bytes, lease->bytes()));
    own.Relabel(MemoryKind::kBatch);
    if (own.bytes() == 0) {
      std::optional<Lease> reserved = budget_->TryReserve(MemoryKind::kBatch, size_bytes);
      if (!reserved) return nullptr;
      own = *std::move(reserved);
    } else if (!own.Resize(size_bytes)) {
      return nullptr;
    }
  }
  Buffer buffer = Buffer::Allocate(size_bytes);
  if (!buffer.ok()) return nullptr;
  // Sizes are rounded up, to huge pages where they are large; nothing of it has been touched yet.
  if (budget_ != nullptr && !own.Resize(buffer.size_bytes())) return nullptr;
  auto* const pooled = new (std::nothrow) PooledBuffer(std::move(buffer), std::move(own));
  return std::unique_ptr<PooledBuffer>(pooled);
}

int64_t BufferPool::Trim() { return idle_->Trim(); }

int64_t BufferPool::ShrinkTo(int64_t max_idle_bytes) { return idle_->Free(idle_->bytes() - max_idle_bytes); }

int64_t BufferPool::idle_bytes() const { return idle_->bytes(); }

}  // namespace headlight
