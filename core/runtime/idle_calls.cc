// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/idle_calls.h"

#include <atomic>
#include <mutex>

namespace headlight {
namespace {

// Grows at its head and never shrinks.
struct IdleCall {
  void (*const call)();
  const IdleCall* const next;
};

constinit std::atomic<const IdleCall*> idle_calls{nullptr};

}  // namespace

void CallWhenIdle(void (*call)()) {
  static std::mutex adding;
  const std::lock_guard lock(adding);
  const IdleCall* const head = idle_calls.load(std::memory_order_relaxed);
  for (const IdleCall* each = head; each != nullptr; each = each->next) {
    if (each->call == call) return;
  }
  idle_calls.store(new IdleCall{call, head}, std::memory_order_release);
}

void GoIdle() {
  for (const IdleCall* each = idle_calls.load(std::memory_order_acquire); each != nullptr;
       each = each->next) {
    each->call();
  }
}

}  // namespace headlight
