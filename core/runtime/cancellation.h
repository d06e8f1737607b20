// SPDX-License-Identifier: Apache-2.0
//
// How a caller tells work in progress that nobody waits for it any more.
#ifndef HEADLIGHT_CORE_RUNTIME_CANCELLATION_H_
#define HEADLIGHT_CORE_RUNTIME_CANCELLATION_H_

#include <atomic>

namespace headlight {

// One-way flag, thread-safe. The kernels look at it between work items and skip what is cancelled; what they
// leave in the output of cancelled sequences is unspecified, their neighbours are untouched.
class CancellationToken {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool IsCancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_CANCELLATION_H_
