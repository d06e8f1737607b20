// SPDX-License-Identifier: Apache-2.0
//
// The threads. What is decided is engine_state_test's business. Nothing here waits for time to pass: the
// clock stands still until a test moves it, and runners stop where they are told to.
#include "server/schedule/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/testing/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using std::chrono::milliseconds;
using ::testing::_;
using testing::FakeClock;
using testing::IsOk;
using testing::StatusIs;

// Runs stop in it while it is closed.
class Gate {
 public:
  void Close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void Open() {
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
    }
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void AwaitArrivals(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int arrived_ = 0;
};

class FakeRunner : public PausableRunner {
 public:
  absl::Status Run(std::span<const std::unique_ptr<Ticket>> batch) override {
    EXPECT_FALSE(inside_.exchange(true)) << "two batches at once";
    num_tickets += static_cast<int64_t>(batch.size());
    gate.Pass();
    inside_ = false;
    return status;
  }
  void Wake() override { ++wakes; }
  void BeginPause() override {
    if (!pausing.exchange(true)) ++pauses;
  }
  void Pause() override {
    BeginPause();
    paused = true;
  }
  void Resume() override {
    EXPECT_TRUE(pausing.exchange(false));
    paused = false;
  }

  bool inside() const { return inside_; }

  Gate gate;
  absl::Status status;  // of each batch; set while none runs
  std::atomic<int64_t> num_tickets = 0;
  std::atomic<int> wakes = 0;
  std::atomic<int> pauses = 0;
  std::atomic<bool> pausing = false;  // or paused
  std::atomic<bool> paused = false;

 private:
  std::atomic<bool> inside_ = false;
};

class SchedulerTest : public ::testing::Test {
 protected:
  static constexpr double kLongMs = 1000;

  std::unique_ptr<Ticket> Make(double ms = 1, int64_t deadline_ms = 0) {
    auto ticket = std::make_unique<Ticket>();
    ticket->arrival = clock_.Now();
    if (deadline_ms > 0) ticket->deadline = clock_.Now() + milliseconds(deadline_ms);
    ticket->cost.projection_flops = ms * 1e8;  // with CostPrior{}
    ticket->tokens = 1;
    ticket->cancelled = std::make_shared<CancellationToken>();
    return ticket;
  }

  std::future<Outcome> Submit(std::unique_ptr<Ticket> ticket) {
    auto promise = std::make_shared<std::promise<Outcome>>();
    std::future<Outcome> outcome = promise->get_future();
    // set_value throws when called twice, which fails the test.
    ticket->done = [promise](std::unique_ptr<Ticket>, Outcome end) { promise->set_value(std::move(end)); };
    handle_ = scheduler_->Submit(std::move(ticket));
    return outcome;
  }

  // Occupies the dispatcher until the gate is opened.
  std::future<Outcome> Occupy() {
    runner_.gate.Close();
    std::future<Outcome> outcome = Submit(Make());
    runner_.gate.AwaitArrivals(1);
    return outcome;
  }

  // Occupies the long lane until its gate is opened.
  std::future<Outcome> OccupyLong() {
    long_runner_.gate.Close();
    std::future<Outcome> outcome = Submit(Make(kLongMs));
    long_runner_.gate.AwaitArrivals(1);
    return outcome;
  }

  // By the clock, which stands still, the long lane would never have had its share.
  void StartWithoutLongShare() {
    EngineOptions options;
    options.long_share = 0;
    Start(options);
  }

  void Start(EngineOptions options = {}) {
    scheduler_ = std::make_unique<Scheduler>(options, runner_, &long_runner_, clock_);
  }

  FakeClock clock_;
  FakeRunner runner_;
  FakeRunner long_runner_;
  std::unique_ptr<Scheduler> scheduler_;
  TicketHandle handle_;
};

bool IsReady(const std::future<Outcome>& outcome) {
  return outcome.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

TEST_F(SchedulerTest, ComputesWhatIsSubmitted) {
  Start();
  std::future<Outcome> outcome = Submit(Make());
  EXPECT_NE(handle_.id, 0u);
  EXPECT_THAT(outcome.get().status, IsOk());
  EXPECT_EQ(runner_.wakes, 1);
  scheduler_->Drain();
  EXPECT_EQ(scheduler_->num_unfinished(), 0);
}

TEST_F(SchedulerTest, AnErrorOfTheRunnerIsTheAnswer) {
  runner_.status = absl::InternalError("broken");
  Start();
  EXPECT_THAT(Submit(Make()).get().status, StatusIs(absl::StatusCode::kInternal, "broken"));
}

TEST_F(SchedulerTest, CancelAnswersAtOnceWhileTheDispatcherIsBusy) {
  Start();
  std::future<Outcome> first = Occupy();
  std::future<Outcome> second = Submit(Make());
  EXPECT_TRUE(scheduler_->Cancel(handle_));
  ASSERT_TRUE(IsReady(second));
  EXPECT_THAT(second.get().status, StatusIs(absl::StatusCode::kCancelled, _));
  EXPECT_FALSE(scheduler_->Cancel(handle_));
  EXPECT_EQ(scheduler_->num_unfinished(), 1);
  runner_.gate.Open();
  EXPECT_THAT(first.get().status, IsOk());
  EXPECT_EQ(runner_.num_tickets, 1);
}

TEST_F(SchedulerTest, RefusesAtOnceOnTheCallersThread) {
  EngineOptions options;
  options.queue_max_requests = 1;
  Start(options);
  std::future<Outcome> first = Occupy();
  std::future<Outcome> second = Submit(Make());
  std::future<Outcome> third = Submit(Make());
  ASSERT_TRUE(IsReady(third));
  EXPECT_EQ(third.get().reason, kReasonQueueFull);
  EXPECT_EQ(handle_.id, 0u);
  EXPECT_EQ(scheduler_->num_unfinished(), 2);
  runner_.gate.Open();
  EXPECT_THAT(second.get().status, IsOk());
}

TEST_F(SchedulerTest, DeadlinesEndWhatWaitsWhileTheDispatcherIsBusy) {
  Start();
  std::future<Outcome> first = Occupy();
  std::future<Outcome> second = Submit(Make(1, 100));
  clock_.Advance(milliseconds(100));
  // The answering thread waits by the real clock, at most 100 ms of it, and then reads this one.
  EXPECT_EQ(second.get().reason, kReasonDeadlinePassed);
  runner_.gate.Open();
  EXPECT_THAT(first.get().status, IsOk());
}

TEST_F(SchedulerTest, AfterStopAcceptingNothingIsAdmittedAndTheRestIsComputed) {
  Start();
  std::future<Outcome> first = Occupy();
  std::future<Outcome> second = Submit(Make());
  scheduler_->StopAccepting();
  EXPECT_EQ(Submit(Make()).get().reason, kReasonDraining);
  EXPECT_EQ(scheduler_->DecideFromHeaders(TimePoint::max(), Caller{})->reason, kReasonDraining);
  runner_.gate.Open();
  scheduler_->Drain();
  EXPECT_TRUE(IsReady(first));
  EXPECT_TRUE(IsReady(second));
  EXPECT_THAT(second.get().status, IsOk());
}

TEST_F(SchedulerTest, DestructionAnswersWhatWaitsAndTellsWhatRuns) {
  Start();
  auto running = Make();
  const std::shared_ptr<CancellationToken> token = running->cancelled;
  runner_.gate.Close();
  std::future<Outcome> first = Submit(std::move(running));
  runner_.gate.AwaitArrivals(1);
  std::future<Outcome> second = Submit(Make());
  std::thread destroyer([this] { scheduler_.reset(); });
  EXPECT_EQ(second.get().reason, kReasonDraining);
  EXPECT_TRUE(token->IsCancelled());
  runner_.gate.Open();
  destroyer.join();
  EXPECT_THAT(first.get().status, StatusIs(absl::StatusCode::kCancelled, _));
}

TEST_F(SchedulerTest, ShortBatchesRunBesideALongOneThatStandsStillMeanwhile) {
  StartWithoutLongShare();
  std::future<Outcome> long_one = OccupyLong();
  runner_.gate.Close();
  std::future<Outcome> short_one = Submit(Make());
  runner_.gate.AwaitArrivals(1);
  EXPECT_TRUE(long_runner_.paused);
  runner_.gate.Open();
  EXPECT_THAT(short_one.get().status, IsOk());
  EXPECT_FALSE(IsReady(long_one));
  long_runner_.gate.Open();
  EXPECT_THAT(long_one.get().status, IsOk());
  scheduler_.reset();
  EXPECT_FALSE(long_runner_.pausing);
  EXPECT_EQ(long_runner_.pauses, 1);
}

TEST_F(SchedulerTest, WhoSubmitsAShortOneHasTheLongOneStandStillAtOnce) {
  StartWithoutLongShare();
  std::future<Outcome> long_one = OccupyLong();
  runner_.gate.Close();
  std::future<Outcome> short_one = Submit(Make());
  EXPECT_TRUE(long_runner_.pausing);
  runner_.gate.Open();
  long_runner_.gate.Open();
  EXPECT_THAT(short_one.get().status, IsOk());
}

TEST_F(SchedulerTest, TheLongOneGoesOnWhenWhatItStoodStillForIsCancelled) {
  Start();  // the long one's share comes first, by a clock that stands still
  std::future<Outcome> long_one = OccupyLong();
  std::future<Outcome> short_one = Submit(Make());
  scheduler_->Cancel(handle_);
  short_one.wait();
  while (long_runner_.pausing) std::this_thread::yield();
  long_runner_.gate.Open();
  EXPECT_THAT(long_one.get().status, IsOk());
}

TEST_F(SchedulerTest, ALongOneThatEndsWhileAnswersAreGivenIsFollowedByTheNext) {
  StartWithoutLongShare();
  std::future<Outcome> first = OccupyLong();
  std::future<Outcome> second = Submit(Make(kLongMs));
  auto short_one = Make();
  short_one->done = [this](std::unique_ptr<Ticket>, Outcome) {
    long_runner_.gate.Open();
    while (long_runner_.inside()) std::this_thread::yield();
  };
  scheduler_->Submit(std::move(short_one));
  EXPECT_THAT(first.get().status, IsOk());
  ASSERT_EQ(second.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_THAT(second.get().status, IsOk());
}

TEST_F(SchedulerTest, LongOnesFollowEachOther) {
  Start();
  long_runner_.gate.Close();  // what is computed in no time would no longer be predicted to be long
  std::vector<std::future<Outcome>> outcomes;
  for (int i = 0; i < 5; ++i) outcomes.push_back(Submit(Make(kLongMs)));
  long_runner_.gate.Open();
  for (std::future<Outcome>& outcome : outcomes) EXPECT_THAT(outcome.get().status, IsOk());
  EXPECT_EQ(long_runner_.num_tickets, 5);
  EXPECT_EQ(runner_.num_tickets, 0);
}

TEST_F(SchedulerTest, TheDispatcherGoesOnWhileAnswersAreGiven) {
  Start();
  Gate answering;
  answering.Close();
  auto slow = Make();
  slow->done = [&](std::unique_ptr<Ticket>, Outcome) { answering.Pass(); };
  scheduler_->Submit(std::move(slow));
  answering.AwaitArrivals(1);
  std::future<Outcome> next = Submit(Make());
  runner_.gate.AwaitArrivals(2);  // computed, while the first `done` has not returned
  answering.Open();
  EXPECT_THAT(next.get().status, IsOk());
}

TEST_F(SchedulerTest, RoomIsGivenAtOnceOrWhenThereIsSome) {
  Start();
  std::promise<void> at_once;
  scheduler_->WhenRoom([&] { at_once.set_value(); });
  EXPECT_EQ(at_once.get_future().wait_for(std::chrono::seconds(0)), std::future_status::ready);

  std::future<Outcome> first = Occupy();
  std::vector<std::future<Outcome>> held_back;
  for (int i = 0; i < 2; ++i) {  // 60 ms, more than the room of 50 ms
    auto ticket = Make(30);
    ticket->held_back = true;
    held_back.push_back(Submit(std::move(ticket)));
  }
  std::promise<void> later;
  std::future<void> room = later.get_future();
  scheduler_->WhenRoom([&] { later.set_value(); });
  EXPECT_NE(room.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  runner_.gate.Open();
  room.get();
  for (std::future<Outcome>& outcome : held_back) EXPECT_THAT(outcome.get().status, IsOk());
}

TEST_F(SchedulerTest, NobodyWaitsForRoomInVainAtTheEnd) {
  Start();
  std::future<Outcome> first = Occupy();
  std::vector<std::future<Outcome>> outcomes;
  for (int i = 0; i < 3; ++i) {
    auto ticket = Make(30);
    ticket->held_back = true;
    outcomes.push_back(Submit(std::move(ticket)));
  }
  std::promise<void> room;
  scheduler_->WhenRoom([&] { room.set_value(); });
  scheduler_->StopAccepting();
  room.get_future().get();
  runner_.gate.Open();
}

class BatchKeeper : public BatchObserver {
 public:
  void BatchEnded(const BatchFacts& batch) override {
    const std::lock_guard lock(mutex_);
    batches_.push_back(batch);
  }
  std::vector<BatchFacts> AwaitBatches(size_t count) const {
    while (true) {
      {
        const std::lock_guard lock(mutex_);
        if (batches_.size() >= count) return batches_;
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

 private:
  mutable std::mutex mutex_;
  std::vector<BatchFacts> batches_;  // guarded by mutex_
};

TEST_F(SchedulerTest, TheObserverHearsOfEveryBatchOnBothLanes) {
  BatchKeeper keeper;
  scheduler_ = std::make_unique<Scheduler>(EngineOptions{}, runner_, &long_runner_, clock_, &keeper);
  std::future<Outcome> first = Occupy();
  std::vector<std::future<Outcome>> together;
  for (int i = 0; i < 3; ++i) together.push_back(Submit(Make(0.5)));
  runner_.gate.Open();
  for (std::future<Outcome>& outcome : together) EXPECT_THAT(outcome.get().status, IsOk());
  const std::vector<BatchFacts> batches = keeper.AwaitBatches(2);
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(batches[0].requests, 1);
  EXPECT_EQ(batches[0].tokens, 1);
  EXPECT_DOUBLE_EQ(batches[0].flops, 1e8);
  EXPECT_GT(batches[0].predicted_ns, 0);
  EXPECT_TRUE(batches[0].whole);
  EXPECT_EQ(batches[1].requests, 3);
  EXPECT_DOUBLE_EQ(batches[1].flops, 1.5e8);

  long_runner_.gate.Close();
  auto ticket = Make(kLongMs);
  ticket->cost_class = 1;  // of which nothing was learnt: the clock stands still
  std::future<Outcome> cancelled = Submit(std::move(ticket));
  long_runner_.gate.AwaitArrivals(1);
  scheduler_->Cancel(handle_);
  long_runner_.gate.Open();
  EXPECT_THAT(cancelled.get().status, StatusIs(absl::StatusCode::kCancelled, _));
  EXPECT_FALSE(keeper.AwaitBatches(3)[2].whole);
  scheduler_.reset();  // before the keeper
}

// Everything at once, for ThreadSanitizer: `done` comes exactly once for each.
TEST_F(SchedulerTest, EachTicketIsAnsweredExactlyOnceUnderStress) {
  constexpr int kThreads = 4;
  constexpr int kTickets = 1500;
  SteadyClock clock;
  EngineOptions options;
  options.queue_max_requests = 50;
  auto scheduler = std::make_unique<Scheduler>(options, runner_, &long_runner_, clock);
  std::vector<std::atomic<int>> answers(kThreads * kTickets);
  std::mutex mutex;
  std::map<std::string, int> ends;
  const auto submit_all = [&](int thread) {
    std::mt19937 random(static_cast<uint32_t>(thread));
    for (int i = 0; i < kTickets; ++i) {
      const bool is_long = random() % 50 == 0;
      auto ticket = Make(is_long ? kLongMs : 0.1);
      if (is_long)
        ticket->cost_class = 1 + random();  // of which nothing is learnt: it stays on the long lane
      ticket->arrival = clock.Now();
      if (random() % 3 == 0) ticket->deadline = clock.Now() + std::chrono::microseconds(random() % 3000);
      ticket->caller.id = random() % 3;
      ticket->held_back = random() % 8 == 0;
      std::atomic<int>& answered = answers[static_cast<size_t>(thread * kTickets + i)];
      ticket->done = [&answered, &mutex, &ends](std::unique_ptr<Ticket>, Outcome end) {
        ++answered;
        const std::lock_guard lock(mutex);
        ++ends[end.reason];
      };
      const TicketHandle handle = scheduler->Submit(std::move(ticket));
      if (random() % 4 == 0) scheduler->Cancel(handle);
      if (random() % 16 == 0) scheduler->WhenRoom([] {});
      if (random() % 16 == 0) scheduler->GetBacklog();
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back(submit_all, thread);
  for (std::thread& thread : threads) thread.join();
  scheduler.reset();
  for (const std::atomic<int>& answered : answers) ASSERT_EQ(answered, 1);
  EXPECT_GT(ends[""], 0);
}

}  // namespace
}  // namespace headlight
