// SPDX-License-Identifier: Apache-2.0
//
// Between the RPCs and the compute threads: a bounded queue and one dispatcher thread. Nothing waits for a
// batch to fill: whenever the dispatcher is free it takes what is queued, up to a budget of tokens. Knows
// nothing of gRPC.
#ifndef HEADLIGHT_SERVER_SCHEDULE_SCHEDULER_H_
#define HEADLIGHT_SERVER_SCHEDULE_SCHEDULER_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "server/batch/attend_task.h"
#include "server/batch/batch_executor.h"
#include "server/schedule/clock.h"
#include "server/schedule/task_queue.h"

namespace headlight {

struct SchedulerOptions {
  int64_t max_batch_tokens = 0;    // of AttendTask::cost_tokens; a larger request is a batch of its own
  int64_t queue_max_requests = 0;  // requests that wait
  int64_t queue_max_bytes = 0;     // AttendTask::size_bytes of the requests that wait or are being computed
};

// Thread-safe.
class Scheduler {
 public:
  // `executor` and `clock` must outlive it.
  Scheduler(const SchedulerOptions& options, BatchExecutor& executor, const Clock& clock);

  // Answers what is still queued with UNAVAILABLE and waits for the batch in progress.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Queues `task`. Never blocks. Whatever happens, task.done is called exactly once:
  //   with the result, or the error of the batch that held it (RESOURCE_EXHAUSTED when memory is short,
  //   INTERNAL); at once, on this thread: RESOURCE_EXHAUSTED when a limit of the queue is reached (the
  //   message names it), UNAVAILABLE after StopAccepting; without being computed: CANCELLED or
  //   DEADLINE_EXCEEDED if nobody waits any more when its turn comes, UNAVAILABLE if the scheduler is
  //   destroyed first.
  void Submit(AttendTask task);

  // From now on Submit answers UNAVAILABLE. What is queued will be computed.
  void StopAccepting();

  // StopAccepting, then waits until every accepted task is answered.
  void Drain();

  int64_t num_unfinished();  // requests accepted and not yet answered

 private:
  void DispatchLoop();
  void RunBatch(std::vector<AttendTask> batch);
  void AnswerDead(std::vector<DroppedTask> dead);
  void Finished(int64_t num_requests);  // after their `done` returned

  // These require mutex_.
  absl::Status CheckRoom(const AttendTask& task) const;
  std::vector<DroppedTask> TakeDead();

  const SchedulerOptions options_;
  BatchExecutor& executor_;
  const Clock& clock_;

  std::mutex mutex_;
  std::condition_variable work_available_;
  std::condition_variable idle_;
  // Guarded by mutex_:
  TaskQueue queue_;
  int64_t unfinished_requests_ = 0;  // accepted and not yet answered
  int64_t held_bytes_ = 0;           // of requests that wait or are being computed
  bool accepting_ = true;
  bool stopping_ = false;

  std::thread dispatcher_;  // last: it uses everything above
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_SCHEDULER_H_
