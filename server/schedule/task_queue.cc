// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/task_queue.h"

#include <utility>

namespace headlight {
namespace {

bool MayShareBatch(const AttendTask& a, const AttendTask& b) {
  return a.model == b.model && a.kind == b.kind;
}

absl::Status StillWanted(const AttendTask& task, TimePoint now) {
  if (task.cancelled->IsCancelled())
    return absl::CancelledError("the caller cancelled while the request was queued");
  if (task.deadline <= now)
    return absl::DeadlineExceededError("the deadline passed while the request was queued");
  return absl::OkStatus();
}

}  // namespace

void TaskQueue::Push(AttendTask task) { tasks_.push_back(std::move(task)); }

std::vector<AttendTask> TaskQueue::TakeBatch(int64_t max_batch_tokens) {
  std::vector<AttendTask> batch;
  int64_t tokens = 0;
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    if (!batch.empty()) {
      if (!MayShareBatch(batch.front(), *task)) {
        ++task;
        continue;
      }
      if (task->cost_tokens() > max_batch_tokens - tokens) break;
    }
    tokens += task->cost_tokens();
    batch.push_back(std::move(*task));
    task = tasks_.erase(task);
  }
  return batch;
}

std::vector<DroppedTask> TaskQueue::TakeDead(TimePoint now) {
  std::vector<DroppedTask> dead;
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    absl::Status wanted = StillWanted(*task, now);
    if (wanted.ok()) {
      ++task;
      continue;
    }
    dead.push_back({std::move(*task), std::move(wanted)});
    task = tasks_.erase(task);
  }
  return dead;
}

std::vector<AttendTask> TaskQueue::TakeAll() {
  std::vector<AttendTask> all;
  for (AttendTask& task : tasks_) all.push_back(std::move(task));
  tasks_.clear();
  return all;
}

}  // namespace headlight
