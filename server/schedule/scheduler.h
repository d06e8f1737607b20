// SPDX-License-Identifier: Apache-2.0
//
// The threads around EngineState: one that runs short batches (the dispatcher), one that runs long ones, and
// one that answers (it calls every `done` of a batch in a row, and ends what has passed its deadline). Knows
// no model and no RPC.
#ifndef HEADLIGHT_SERVER_SCHEDULE_SCHEDULER_H_
#define HEADLIGHT_SERVER_SCHEDULE_SCHEDULER_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "server/schedule/batch_observer.h"
#include "server/schedule/batch_runner.h"
#include "server/schedule/clock.h"
#include "server/schedule/engine_state.h"
#include "server/schedule/ticket.h"

namespace headlight {

// Thread-safe.
class Scheduler {
 public:
  // All must outlive it. `long_runner` may be null: then long tickets are batches like others. `observer`, if
  // there is one, hears of every batch.
  Scheduler(const EngineOptions& options, BatchRunner& runner, PausableRunner* long_runner,
            const Clock& clock, BatchObserver* observer = nullptr);

  // Answers what still waits with UNAVAILABLE, sets the tokens of what is computed and waits for it. Every
  // `done` has been called when it returns.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Admits `ticket` or refuses it. Never blocks for longer than O(log tickets). Whatever happens, its `done`
  // is called exactly once: at once and on this thread if it is refused (the handle is 0 then), else on the
  // answering thread or on the one that calls Cancel, perhaps before Submit returns. How it ends:
  //   OK                  computed, before its deadline
  //   RESOURCE_EXHAUSTED  queue_full, behind_queue (with retry_after_us), or the runner's own
  //   DEADLINE_EXCEEDED   deadline_too_short: not even an idle server would make it; deadline_passed: it
  //   waited or ran
  //                       for too long, or could no longer be done in time
  //   CANCELLED           cancelled: Cancel, or its token was set by others
  //   UNAVAILABLE         draining: after StopAccepting, or the scheduler is destroyed
  //   others              the runner's
  TicketHandle Submit(std::unique_ptr<Ticket> ticket);

  // Nobody waits for it any more. A ticket that waits is taken out and answered CANCELLED before this
  // returns; of one that is computed the token is set, and the answer follows when the runner has let go of
  // it. False if it has ended already.
  bool Cancel(TicketHandle handle);

  // From now on Submit answers UNAVAILABLE, draining. What was admitted will be computed.
  void StopAccepting();

  // StopAccepting, then WaitUntilIdle.
  void Drain();

  // Waits until every admitted ticket is answered.
  void WaitUntilIdle();

  int64_t num_unfinished() const;  // admitted, `done` not yet returned

  // What waits and runs, for EstimateCost and metrics.
  Backlog GetBacklog() const;

  // Whether the backlog of `caller` alone would miss `deadline`, before anything else of the request is
  // known.
  std::optional<Refusal> DecideFromHeaders(TimePoint deadline, const Caller& caller) const;

  // See CostModel.
  void Introduce(uint64_t cost_class, const CostPrior& prior);

  // What it would take, and whether it would be admitted now. Reads the ticket's numbers only.
  Estimate EstimateTicket(const Ticket& ticket) const;

  // For streams whose tickets are held back: calls `room` once as soon as another such ticket may come, at
  // once and on this thread if it may come now, else later on the answering thread. Each call of `room`
  // stands for one ticket. After StopAccepting every `room` is called.
  void WhenRoom(std::function<void()> room);

 private:
  void DispatchLoop();
  void LongLoop();
  void AnswerLoop();
  // These require mutex_.
  void StartLong();       // hands the next long ticket to the long lane if that is idle
  void BeginLongPause();  // what runs long, if anything does, leaves the cores to others, from now on
  void EndLongPause();
  // Nothing short waits: what was computed is answered before what runs long goes on, unless that takes too
  // long. True: there is more to do meanwhile.
  bool WaitForAnswers(std::unique_lock<std::mutex>& lock);
  void Deliver(std::vector<FinishedTicket> finished);  // to the answering thread
  // `batch` has been run: delivers its tickets and tells observer_, for which it lets go of the lock.
  void Completed(std::unique_lock<std::mutex>& lock, Batch batch, const absl::Status& status);
  void GiveRoom(const Batch& batch);   // `batch` has left the line: calls some of those who wait for room
  void Answered(int64_t num_tickets);  // their `done` has returned

  const Clock& clock_;
  BatchRunner& runner_;
  PausableRunner* const long_runner_;
  BatchObserver* const observer_;

  mutable std::mutex mutex_;
  std::condition_variable work_available_;   // the dispatcher
  std::condition_variable long_available_;   // the long lane
  std::condition_variable answers_waiting_;  // the answering thread
  std::condition_variable idle_;             // WaitUntilIdle
  // Guarded by mutex_:
  EngineState state_;
  std::optional<Batch> long_batch_;  // taken by the dispatcher, not yet by the long lane
  std::vector<FinishedTicket> finished_;
  std::deque<std::function<void()>> rooms_;         // that wait for room
  std::vector<std::function<void()>> ready_rooms_;  // for the answering thread to call
  TimePoint answerer_looks_at_ =
      TimePoint::min();  // when the answering thread next looks at deadlines by itself
  int64_t unfinished_ = 0;
  int64_t answering_now_ = 0;  // tickets whose `done` the answering thread is calling
  bool long_paused_ = false;
  bool accepting_ = true;
  bool stopping_ = false;
  bool answering_ = true;  // until both lanes have ended

  std::thread dispatcher_;
  std::thread long_lane_;
  std::thread answerer_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SCHEDULE_SCHEDULER_H_
