// SPDX-License-Identifier: Apache-2.0
#include "server/memory/buffer_pool.h"

#include <algorithm>
#include <utility>

namespace headlight {

BufferPool::BufferPool(int64_t max_idle_bytes) : idle_(std::make_shared<Idle>()) {
  idle_->max_bytes = max_idle_bytes;
}

std::shared_ptr<Buffer> BufferPool::Acquire(int64_t size_bytes) {
  Buffer buffer;
  {
    const std::lock_guard lock(idle_->mutex);
    std::vector<Buffer>& buffers = idle_->buffers;
    // The smallest that fits; if none does, the smallest of all makes room for the new one, so that there are
    // never more buffers than were once in use together.
    auto best = std::find_if(buffers.begin(), buffers.end(),
                             [&](const Buffer& idle) { return idle.size_bytes() >= size_bytes; });
    if (best == buffers.end()) best = buffers.begin();
    if (best != buffers.end()) {
      buffer = std::move(*best);
      buffers.erase(best);
      idle_->bytes -= buffer.size_bytes();
    }
  }
  if (!buffer.Reserve(size_bytes)) return nullptr;
  return std::shared_ptr<Buffer>(new Buffer(std::move(buffer)), [idle = idle_](Buffer* returned) {
    GiveBack(*idle, std::move(*returned));
    delete returned;
  });
}

int64_t BufferPool::idle_bytes() const {
  const std::lock_guard lock(idle_->mutex);
  return idle_->bytes;
}

void BufferPool::GiveBack(Idle& idle, Buffer buffer) {
  const std::lock_guard lock(idle.mutex);
  if (buffer.size_bytes() > idle.max_bytes - idle.bytes) return;  // freed when `buffer` goes
  idle.bytes += buffer.size_bytes();
  const auto larger = std::find_if(idle.buffers.begin(), idle.buffers.end(), [&](const Buffer& other) {
    return other.size_bytes() >= buffer.size_bytes();
  });
  idle.buffers.insert(larger, std::move(buffer));
}

}  // namespace headlight
