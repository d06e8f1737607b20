// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/server/attend_fixtures.h"
#include "tests/server/schedule/fake_executor.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using testing::FakeClock;
using testing::FakeExecutor;
using testing::IsOk;
using testing::StatusIs;

constexpr int64_t kNoLimit = int64_t{1} << 40;

class SchedulerTest : public ::testing::Test {
 protected:
  using Outcome = std::future<absl::StatusOr<AttendResult>>;

  // A task of one token; size_bytes serves as its name.
  AttendTask Task(int64_t name) {
    AttendTask task;
    task.model = model_;
    task.size_bytes = name;
    task.q_lens = task.kv_lens = {1};
    task.q_tokens = task.kv_tokens = 1;
    task.arrival = clock_.Now();
    task.cancelled = std::make_shared<CancellationToken>();
    return task;
  }

  Outcome Submit(AttendTask task) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<AttendResult>>>();
    Outcome outcome = promise->get_future();
    // set_value throws when called twice, which fails the test.
    task.done = [promise](absl::StatusOr<AttendResult> result) { promise->set_value(std::move(result)); };
    scheduler_->Submit(std::move(task));
    return outcome;
  }

  // Occupies the dispatcher with a task named 0 until the returned promise is kept.
  std::promise<void> Occupy() {
    auto [entered, release] = executor_.HoldNextBatch();
    first_ = Submit(Task(0));
    entered.wait();
    return std::move(release);
  }

  void Start(const SchedulerOptions& options = {100, 100, kNoLimit}) {
    scheduler_ = std::make_unique<Scheduler>(options, executor_, clock_);
  }

  std::shared_ptr<const LoadedModel> model_ = testing::MakeTestModel("small").loaded;
  FakeClock clock_;
  FakeExecutor executor_{[this] { clock_.Advance(compute_time_); }};
  std::chrono::nanoseconds compute_time_{0};  // that each batch takes by clock_; set while none runs
  std::unique_ptr<Scheduler> scheduler_;
  Outcome first_;
};

TEST_F(SchedulerTest, AnIdleSchedulerTakesATaskAtOnce) {
  Start();
  EXPECT_THAT(Submit(Task(1)).get(), IsOk());
  EXPECT_THAT(executor_.batches(), ElementsAre(ElementsAre(1)));
}

TEST_F(SchedulerTest, WhatQueuesWhileABatchRunsBecomesOneBatch) {
  Start();
  std::promise<void> release = Occupy();
  std::vector<Outcome> outcomes;
  for (int64_t i = 1; i <= 3; ++i) outcomes.push_back(Submit(Task(i)));
  release.set_value();
  for (Outcome& outcome : outcomes) EXPECT_THAT(outcome.get(), IsOk());
  EXPECT_THAT(executor_.batches(), ElementsAre(ElementsAre(0), ElementsAre(1, 2, 3)));
}

TEST_F(SchedulerTest, ABatchStaysWithinItsBudget) {
  Start({/*max_batch_tokens=*/2, 100, kNoLimit});
  std::promise<void> release = Occupy();
  std::vector<Outcome> outcomes;
  for (int64_t i = 1; i <= 3; ++i) outcomes.push_back(Submit(Task(i)));
  release.set_value();
  for (Outcome& outcome : outcomes) EXPECT_THAT(outcome.get(), IsOk());
  EXPECT_THAT(executor_.batches(), ElementsAre(ElementsAre(0), ElementsAre(1, 2), ElementsAre(3)));
}

TEST_F(SchedulerTest, TellsHowLongATaskWaitedAndWasComputed) {
  Start();
  compute_time_ = std::chrono::microseconds(70);
  std::promise<void> release = Occupy();
  Outcome second = Submit(Task(1));
  clock_.Advance(std::chrono::microseconds(30));  // while the first batch is held
  release.set_value();
  const auto result = second.get();
  ASSERT_THAT(result, IsOk());
  EXPECT_EQ(result->queue_us, 30 + 70);
  EXPECT_EQ(result->compute_us, 70);
  EXPECT_EQ(first_.get()->queue_us, 0);
}

TEST_F(SchedulerTest, ExpiredTasksAreDroppedWithoutBeingComputed) {
  Start();
  std::promise<void> release = Occupy();
  AttendTask hurried = Task(1);
  hurried.deadline = clock_.Now() + std::chrono::seconds(1);
  Outcome expired = Submit(std::move(hurried));
  Outcome patient = Submit(Task(2));
  clock_.Advance(std::chrono::seconds(1));
  release.set_value();
  EXPECT_THAT(expired.get(), StatusIs(absl::StatusCode::kDeadlineExceeded,
                                      "the deadline passed while the request was queued"));
  EXPECT_THAT(patient.get(), IsOk());
  EXPECT_THAT(executor_.batches(), ElementsAre(ElementsAre(0), ElementsAre(2)));
}

TEST_F(SchedulerTest, CancelledTasksAreDroppedWithoutBeingComputed) {
  Start();
  std::promise<void> release = Occupy();
  auto token = std::make_shared<CancellationToken>();
  AttendTask task = Task(1);
  task.cancelled = token;
  Outcome cancelled = Submit(std::move(task));
  token->Cancel();
  release.set_value();
  EXPECT_THAT(cancelled.get(),
              StatusIs(absl::StatusCode::kCancelled, "the caller cancelled while the request was queued"));
  scheduler_->Drain();
  EXPECT_THAT(executor_.batches(), ElementsAre(ElementsAre(0)));
}

TEST_F(SchedulerTest, ATaskCancelledDuringItsBatchGetsNoResult) {
  Start();
  auto token = std::make_shared<CancellationToken>();
  auto [entered, release] = executor_.HoldNextBatch();
  AttendTask task = Task(1);
  task.cancelled = token;
  Outcome cancelled = Submit(std::move(task));
  entered.wait();
  token->Cancel();
  release.set_value();
  EXPECT_THAT(cancelled.get(),
              StatusIs(absl::StatusCode::kCancelled, "the caller cancelled while the request was computed"));
}

TEST_F(SchedulerTest, AFullQueueRefusesByNumber) {
  Start({100, /*queue_max_requests=*/2, kNoLimit});
  std::promise<void> release = Occupy();
  Outcome second = Submit(Task(1));
  Outcome third = Submit(Task(2));
  EXPECT_THAT(Submit(Task(3)).get(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       "the queue is full: 2 requests wait, the limit is 2 (--queue-max-requests)"));
  release.set_value();
  EXPECT_THAT(second.get(), IsOk());
  EXPECT_THAT(third.get(), IsOk());
  EXPECT_THAT(Submit(Task(4)).get(), IsOk());
}

TEST_F(SchedulerTest, AFullQueueRefusesByBytesIncludingThoseBeingComputed) {
  Start({100, 100, /*queue_max_bytes=*/1000});
  auto [entered, release] = executor_.HoldNextBatch();
  Outcome running = Submit(Task(600));
  entered.wait();
  Outcome waiting = Submit(Task(300));
  EXPECT_THAT(Submit(Task(101)).get(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       "the queue is full: 900 bytes are held and this request brings 101, the limit is 1000 "
                       "(--queue-max-bytes)"));
  EXPECT_THAT(executor_.batches(), ElementsAre());
  release.set_value();
  EXPECT_THAT(running.get(), IsOk());
  EXPECT_THAT(waiting.get(), IsOk());
  scheduler_->StopAccepting();
}

TEST_F(SchedulerTest, BytesAreFreeAgainWhenTheirTaskIsAnswered) {
  Start({100, 100, /*queue_max_bytes=*/1000});
  for (int i = 0; i < 5; ++i) EXPECT_THAT(Submit(Task(900)).get(), IsOk());
}

TEST_F(SchedulerTest, TheDeadMakeRoomForTheLiving) {
  Start({100, /*queue_max_requests=*/1, kNoLimit});
  std::promise<void> release = Occupy();
  AttendTask hurried = Task(1);
  hurried.deadline = clock_.Now() + std::chrono::seconds(1);
  Outcome expired = Submit(std::move(hurried));
  clock_.Advance(std::chrono::seconds(1));
  Outcome alive = Submit(Task(2));
  EXPECT_THAT(expired.get(), StatusIs(absl::StatusCode::kDeadlineExceeded, ::testing::_));
  release.set_value();
  EXPECT_THAT(alive.get(), IsOk());
}

TEST_F(SchedulerTest, AFailedBatchAnswersAllItsTasksAndTheNextOneRuns) {
  Start();
  std::promise<void> release = Occupy();
  executor_.set_error(absl::InternalError("oneDNN failed"));
  Outcome second = Submit(Task(1));
  Outcome third = Submit(Task(2));
  release.set_value();
  EXPECT_THAT(second.get(), StatusIs(absl::StatusCode::kInternal, "oneDNN failed"));
  EXPECT_THAT(third.get(), StatusIs(absl::StatusCode::kInternal, "oneDNN failed"));
  scheduler_->StopAccepting();
}

TEST_F(SchedulerTest, LivesOnAfterMemoryWasShort) {
  Start();
  executor_.set_error(absl::ResourceExhaustedError("memory is short"));
  EXPECT_THAT(Submit(Task(1)).get(), StatusIs(absl::StatusCode::kResourceExhausted, "memory is short"));
  auto [entered, release] = executor_.HoldNextBatch();
  Outcome next = Submit(Task(2));
  entered.wait();
  executor_.set_error(absl::OkStatus());
  release.set_value();
  EXPECT_THAT(next.get(), IsOk());
}

TEST_F(SchedulerTest, DrainFinishesWhatWasAcceptedAndRefusesTheRest) {
  Start();
  std::promise<void> release = Occupy();
  Outcome accepted = Submit(Task(1));
  scheduler_->StopAccepting();
  EXPECT_THAT(Submit(Task(2)).get(), StatusIs(absl::StatusCode::kUnavailable, "the server is shutting down"));
  release.set_value();
  scheduler_->Drain();
  EXPECT_EQ(first_.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_EQ(accepted.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_THAT(accepted.get(), IsOk());
}

TEST_F(SchedulerTest, DestructionAnswersWhatIsQueued) {
  Start();
  std::promise<void> release = Occupy();
  Outcome queued = Submit(Task(1));
  std::thread destroyer([this] { scheduler_.reset(); });
  EXPECT_THAT(queued.get(), StatusIs(absl::StatusCode::kUnavailable, "the server is shutting down"));
  release.set_value();
  destroyer.join();
  EXPECT_THAT(first_.get(), IsOk());
}

TEST_F(SchedulerTest, EveryTaskIsAnsweredExactlyOnceUnderStress) {
  constexpr int kThreads = 4;
  constexpr int kTasksPerThread = 2000;
  Start({/*max_batch_tokens=*/7, /*queue_max_requests=*/20, /*queue_max_bytes=*/2000});
  std::vector<std::atomic<int>> answers(kThreads * kTasksPerThread);
  std::mutex mutex;
  std::map<absl::StatusCode, int> codes;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(thread);
      for (int i = 0; i < kTasksPerThread; ++i) {
        AttendTask task = Task(random() % 200);
        auto token = std::make_shared<CancellationToken>();
        task.cancelled = token;
        if (random() % 8 == 0) task.deadline = clock_.Now() + std::chrono::nanoseconds(random() % 3);
        if (random() % 8 == 0) clock_.Advance(std::chrono::nanoseconds(1));
        task.done = [&, index = thread * kTasksPerThread + i](absl::StatusOr<AttendResult> result) {
          ++answers[index];
          const std::lock_guard lock(mutex);
          ++codes[result.status().code()];
        };
        scheduler_->Submit(std::move(task));
        if (random() % 8 == 0) token->Cancel();
        if (random() % 8 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  scheduler_->Drain();
  for (const std::atomic<int>& count : answers) ASSERT_EQ(count.load(), 1);
  EXPECT_GT(codes[absl::StatusCode::kOk], 0);
  int total = 0;
  for (const auto& [code, count] : codes) total += count;
  EXPECT_EQ(total, kThreads * kTasksPerThread);
}

}  // namespace
}  // namespace headlight
