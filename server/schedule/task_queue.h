// SPDX-License-Identifier: Apache-2.0
//
// The tasks that wait, and the order in which they leave. First come, first served for now; another order
// replaces this class and nothing else.
#ifndef HEADLIGHT_SERVER_SCHEDULE_TASK_QUEUE_H_
#define HEADLIGHT_SERVER_SCHEDULE_TASK_QUEUE_H_

#include <cstdint>
#include <list>
#include <vector>

#include "absl/status/status.h"
#include "server/batch/attend_task.h"
#include "server/schedule/clock.h"

namespace headlight {

// A task that leaves without being computed, and why: CANCELLED or DEADLINE_EXCEEDED.
struct DroppedTask {
  AttendTask task;
  absl::Status reason;
};

// Not thread-safe: the scheduler locks around it. Never calls task.done.
class TaskQueue {
 public:
  void Push(AttendTask task);

  int64_t num_tasks() const { return static_cast<int64_t>(tasks_.size()); }
  bool empty() const { return tasks_.empty(); }

  // Takes the oldest task and, in their order, those after it that may share its batch (same model, same
  // InputKind), until the next of them would exceed max_batch_tokens; the oldest is taken whatever its size.
  // Empty if the queue is.
  std::vector<AttendTask> TakeBatch(int64_t max_batch_tokens);

  // Takes out every task that nobody waits for at `now`.
  std::vector<DroppedTask> TakeDead(TimePoint now);

  // Takes out everything.
  std::vector<AttendTask> TakeAll();

 private:
  std::list<AttendTask> tasks_;  // oldest first; a list because batches leave from the middle
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_TASK_QUEUE_H_
