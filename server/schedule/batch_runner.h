// SPDX-License-Identifier: Apache-2.0
//
// What the scheduler needs of those who compute.
#ifndef HEADLIGHT_SERVER_SCHEDULE_BATCH_RUNNER_H_
#define HEADLIGHT_SERVER_SCHEDULE_BATCH_RUNNER_H_

#include <memory>
#include <span>

#include "absl/status/status.h"
#include "server/schedule/ticket.h"

namespace headlight {

class BatchRunner {
 public:
  virtual ~BatchRunner() = default;

  // Computes `batch`, at least one ticket, all of one BatchKey, and puts the results into each ticket's Work.
  // Those of a ticket whose token was set meanwhile are not looked at. An error is the whole batch's. Called
  // from one thread at a time; must not throw.
  virtual absl::Status Run(std::span<const std::unique_ptr<Ticket>> batch) = 0;

  // A batch will follow soon: threads that sleep may begin to wake. Cheap, never blocks; called from any
  // thread, also while Run runs.
  virtual void Wake() {}
};

// One that can be told to leave the cores to others for a while. None of this comes from the thread inside
// Run; all may also come before Run has begun and after it has returned, and BeginPause and Pause several
// times before one Resume.
class PausableRunner : public BatchRunner {
 public:
  // As Pause, but does not wait. Cheap, never blocks; called from any thread.
  virtual void BeginPause() = 0;

  // Returns when the threads of Run stand still, which should take well below a millisecond. Until Resume, a
  // Run that begins stands still as well.
  virtual void Pause() = 0;
  virtual void Resume() = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_BATCH_RUNNER_H_
