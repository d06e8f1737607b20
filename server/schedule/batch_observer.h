// SPDX-License-Identifier: Apache-2.0
//
// Who wants to know what batches took, such as metrics.
#ifndef HEADLIGHT_SERVER_SCHEDULE_BATCH_OBSERVER_H_
#define HEADLIGHT_SERVER_SCHEDULE_BATCH_OBSERVER_H_

#include <cstdint>

namespace headlight {

// One batch that has been run.
struct BatchFacts {
  int64_t requests = 0;
  int64_t tokens = 0;
  double flops = 0;          // of its products and of attention, as the cost model counts them
  int64_t predicted_ns = 0;  // before admission's correction
  int64_t real_ns = 0;       // packing and unpacking included, without the pauses of a long run
  bool whole = true;         // false: an error or a cancellation left part of it out
};

// Called from the threads that run batches: thread-safe, and quick.
class BatchObserver {
 public:
  virtual ~BatchObserver() = default;
  virtual void BatchEnded(const BatchFacts& batch) = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_BATCH_OBSERVER_H_
