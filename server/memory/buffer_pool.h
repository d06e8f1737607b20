// SPDX-License-Identifier: Apache-2.0
//
// Memory that batches use again and again. Replies in flight hold on to the batch's output after the batch is
// over, so buffers come back whenever the last reader lets go.
#ifndef HEADLIGHT_SERVER_MEMORY_BUFFER_POOL_H_
#define HEADLIGHT_SERVER_MEMORY_BUFFER_POOL_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/tensor/buffer.h"

namespace headlight {

// Thread-safe. Buffers may outlive the pool; they are then freed.
class BufferPool {
 public:
  // Keeps at most max_idle_bytes for later; what comes back beyond that is freed.
  explicit BufferPool(int64_t max_idle_bytes);

  // At least size_bytes bytes, contents unspecified. Null when memory is short.
  std::shared_ptr<Buffer> Acquire(int64_t size_bytes);

  int64_t idle_bytes() const;

 private:
  struct Idle {
    mutable std::mutex mutex;
    std::vector<Buffer> buffers;  // guarded by mutex; smallest first
    int64_t bytes = 0;            // guarded by mutex
    int64_t max_bytes = 0;
  };
  static void GiveBack(Idle& idle, Buffer buffer);

  std::shared_ptr<Idle> idle_;  // shared with the buffers that are out
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MEMORY_BUFFER_POOL_H_
