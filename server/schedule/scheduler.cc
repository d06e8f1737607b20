// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/scheduler.h"

#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

absl::Status ShuttingDown() { return absl::UnavailableError("the server is shutting down"); }

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, BatchExecutor& executor, const Clock& clock)
    : options_(options), executor_(executor), clock_(clock), dispatcher_([this] { DispatchLoop(); }) {}

Scheduler::~Scheduler() {
  std::vector<AttendTask> abandoned;
  {
    const std::lock_guard lock(mutex_);
    accepting_ = false;
    stopping_ = true;
    abandoned = queue_.TakeAll();
  }
  work_available_.notify_one();
  for (AttendTask& task : abandoned) task.done(ShuttingDown());
  dispatcher_.join();
}

void Scheduler::Submit(AttendTask task) {
  absl::Status refusal;
  std::vector<DroppedTask> dead;
  {
    const std::lock_guard lock(mutex_);
    refusal = CheckRoom(task);
    if (absl::IsResourceExhausted(refusal)) {  // those that nobody waits for must not keep out the living
      dead = TakeDead();
      refusal = CheckRoom(task);
    }
    if (refusal.ok()) {
      const int64_t size_bytes = task.size_bytes;
      queue_.Push(std::move(task));
      ++unfinished_requests_;
      held_bytes_ += size_bytes;
    }
  }
  if (refusal.ok()) {
    work_available_.notify_one();
  } else {
    task.done(std::move(refusal));
  }
  AnswerDead(std::move(dead));
}

void Scheduler::StopAccepting() {
  const std::lock_guard lock(mutex_);
  accepting_ = false;
}

void Scheduler::Drain() {
  std::unique_lock lock(mutex_);
  accepting_ = false;
  idle_.wait(lock, [this] { return unfinished_requests_ == 0; });
}

int64_t Scheduler::num_unfinished() {
  const std::lock_guard lock(mutex_);
  return unfinished_requests_;
}

void Scheduler::DispatchLoop() {
  while (true) {
    std::vector<DroppedTask> dead;
    std::vector<AttendTask> batch;
    {
      std::unique_lock lock(mutex_);
      work_available_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      dead = TakeDead();
      batch = queue_.TakeBatch(options_.max_batch_tokens);
    }
    AnswerDead(std::move(dead));
    if (!batch.empty()) RunBatch(std::move(batch));
  }
}

void Scheduler::RunBatch(std::vector<AttendTask> batch) {
  const TimePoint start = clock_.Now();
  absl::StatusOr<std::vector<AttendResult>> results = executor_.Execute(batch);
  const int64_t compute_us = MicrosecondsBetween(start, clock_.Now());
  {
    const std::lock_guard lock(mutex_);
    for (const AttendTask& task : batch) held_bytes_ -= task.size_bytes;
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    AttendTask& task = batch[i];
    if (!results.ok()) {
      task.done(results.status());
    } else if (task.cancelled->IsCancelled()) {  // its part of the output was perhaps not computed
      task.done(absl::CancelledError("the caller cancelled while the request was computed"));
    } else {
      AttendResult result = std::move((*results)[i]);
      result.queue_us = MicrosecondsBetween(task.arrival, start);
      result.compute_us = compute_us;
      task.done(std::move(result));
    }
  }
  Finished(static_cast<int64_t>(batch.size()));
}

absl::Status Scheduler::CheckRoom(const AttendTask& task) const {
  if (!accepting_) return ShuttingDown();
  if (queue_.num_tasks() >= options_.queue_max_requests) {
    return absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", queue_.num_tasks(),
                                                     " requests wait, the limit is ",
                                                     options_.queue_max_requests, " (--queue-max-requests)"));
  }
  if (task.size_bytes > options_.queue_max_bytes - held_bytes_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", held_bytes_, " bytes are held and this request brings ",
                     task.size_bytes, ", the limit is ", options_.queue_max_bytes, " (--queue-max-bytes)"));
  }
  return absl::OkStatus();
}

std::vector<DroppedTask> Scheduler::TakeDead() {
  std::vector<DroppedTask> dead = queue_.TakeDead(clock_.Now());
  for (const DroppedTask& drop : dead) held_bytes_ -= drop.task.size_bytes;
  return dead;
}

void Scheduler::AnswerDead(std::vector<DroppedTask> dead) {
  if (dead.empty()) return;
  for (DroppedTask& drop : dead) drop.task.done(std::move(drop.reason));
  Finished(static_cast<int64_t>(dead.size()));
}

void Scheduler::Finished(int64_t num_requests) {
  const std::lock_guard lock(mutex_);
  unfinished_requests_ -= num_requests;
  if (unfinished_requests_ == 0) idle_.notify_all();
}

}  // namespace headlight
