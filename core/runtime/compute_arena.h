// SPDX-License-Identifier: Apache-2.0
//
// The threads that compute. One arena per process owns all of them; gRPC threads never compute.
#ifndef HEADLIGHT_CORE_RUNTIME_COMPUTE_ARENA_H_
#define HEADLIGHT_CORE_RUNTIME_COMPUTE_ARENA_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

namespace headlight {

// A oneTBB arena of a fixed number of threads. While a body runs, oneDNN's OpenMP runs on its thread alone
// (its parallelism is ours) and denormals are flushed to zero; both are put back afterwards. Thread-safe;
// several callers of ForEach share the threads, and those beyond num_threads wait for a place. An arena of
// one thread keeps none: each caller computes on itself.
class ComputeArena {
 public:
  // num_threads >= 1; the caller of ForEach counts as one of them.
  explicit ComputeArena(int num_threads);
  ~ComputeArena();
  ComputeArena(const ComputeArena&) = delete;
  ComputeArena& operator=(const ComputeArena&) = delete;

  int num_threads() const { return num_threads_; }

  // Calls body(item, worker) once for every item in [0, num_items), in parallel, and waits for all of them.
  // `worker` is in [0, num_threads()) and no two concurrent calls from the same ForEach share it.
  // May be called from within a body of an outer ForEach: the waiting thread then takes only items of the
  // inner one, so whatever belongs to its outer item is safe. The inner body sees the same worker numbers. An
  // exception thrown by a body leaves ForEach after the other bodies have ended.
  void ForEach(int64_t num_items, absl::FunctionRef<void(int64_t item, int worker)> body);

 private:
  class Impl;
  const int num_threads_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_RUNTIME_COMPUTE_ARENA_H_
