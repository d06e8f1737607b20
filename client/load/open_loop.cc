// SPDX-License-Identifier: Apache-2.0
#include <sys/prctl.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "client/load/latency_recorder.h"
#include "client/load/load_call.h"
#include "client/load/load_worker.h"
#include "client/load/pacer.h"

namespace headlight::client {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStopInterval{20};  // how late `stop` may be noticed

// The plan's steps, which count from the window's begin, counted from the start of the run.
std::vector<RateStep> FromStart(const LoadPlan& plan) {
  std::vector<RateStep> steps = plan.rate_steps;
  for (RateStep& step : steps) step.at += plan.warmup;
  return steps;
}

// The calls of a worker that are not in flight. Thread-safe.
class FreeCalls {
 public:
  explicit FreeCalls(int max_calls) : max_calls_(static_cast<size_t>(max_calls)) {}

  // Null if all are in flight.
  LoadCall* Take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) {
      if (calls_.size() == max_calls_) return nullptr;
      return &calls_.emplace_back();
    }
    LoadCall* const call = free_.back();
    free_.pop_back();
    return call;
  }

  void GiveBack(LoadCall* call) {
    const std::lock_guard lock(mutex_);
    free_.push_back(call);
    if (waiting_) given_back_.notify_one();
  }

  bool HasRoom() {
    const std::lock_guard lock(mutex_);
    return !free_.empty() || calls_.size() < max_calls_;
  }

  void WaitForRoomUntil(LoadClock::time_point time) {
    std::unique_lock lock(mutex_);
    waiting_ = true;
    given_back_.wait_until(lock, time, [&] { return !free_.empty(); });
    waiting_ = false;
  }

  bool AllBack() {
    const std::lock_guard lock(mutex_);
    return free_.size() == calls_.size();
  }

  void CancelAll() {
    const std::lock_guard lock(mutex_);
    for (LoadCall& call : calls_) call.CancelAny();
  }

 private:
  const size_t max_calls_;
  std::mutex mutex_;
  std::condition_variable given_back_;
  std::deque<LoadCall> calls_;
  std::vector<LoadCall*> free_;
  bool waiting_ = false;
};

// Two threads: one sends by the clock, which gRPC's queues do not keep better than to a millisecond, and one
// takes what comes back.
class OpenLoopWorker final : public LoadWorker {
 public:
  OpenLoopWorker(LoadShared& shared, int index)
      : shared_(shared),
        sender_(shared.window, shared.timeline_width),
        receiver_(shared.window, shared.timeline_width),
        calls_(std::max(1, shared.plan.max_in_flight / shared.num_workers)),
        pacer_({.arrivals = shared.plan.arrivals,
                .rate = shared.plan.rate,
                .rate_steps = FromStart(shared.plan),
                .seed = shared.plan.mix.seed,
                .start = shared.start,
                .window = shared.window,
                .count = shared.plan.count},
               shared.plan.mix, index, shared.num_workers) {
    for (size_t i = static_cast<size_t>(index); i < shared.plan.channels.size();
         i += static_cast<size_t>(shared.num_workers)) {
      stubs_.emplace_back(shared.plan.channels[i]);
    }
  }

  void Run() override {
    std::thread receiver([this] { Receive(); });
    prctl(PR_SET_TIMERSLACK, 1);  // nanosecond: wake when asked, not up to 50 us later with others
    SendAll();
    Drain();
    queue_.Shutdown();
    receiver.join();
  }

  LoadResult TakeResult() override {
    LoadResult result = std::move(sender_.result());
    result.Merge(receiver_.result());
    return result;
  }
  LoadClock::time_point last_end() const override { return receiver_.last_end(); }

 private:
  void SendAll() {
    while (!shared_.stop) {
      const LoadClock::time_point now = LoadClock::now();
      cancels_.CancelDue(now);
      const bool has_room = calls_.HasRoom();
      const Pacer::Step step = pacer_.Next(now, has_room);
      switch (step.action) {
        case Pacer::Action::kEnd:
          return;
        case Pacer::Action::kDrop:
          sender_.Unsent(step.at);
          break;
        case Pacer::Action::kSend:
          Send(step);
          break;
        case Pacer::Action::kWait: {
          const LoadClock::time_point until = std::min(cancels_.NextAt(step.at), now + kStopInterval);
          if (has_room) {
            std::this_thread::sleep_until(until);
          } else {
            calls_.WaitForRoomUntil(until);
          }
        }
      }
    }
  }

  void Send(const Pacer::Step& step) {
    LoadCall* const call = calls_.Take();  // only this thread takes, so there is one
    const RequestChoice& choice = step.choice;
    grpc::GenericStub& stub = stubs_[static_cast<size_t>(step.number / shared_.num_workers) % stubs_.size()];
    const SentRequest request = call->Start(stub, shared_.plan.pool[choice.request], choice, step.at, queue_);
    if (choice.cancel_after) cancels_.Add(request.sent + *choice.cancel_after, *call);
    sender_.Sent(request);
    shared_.sent.fetch_add(1, std::memory_order_relaxed);
  }

  void Receive() {
    void* tag = nullptr;
    bool ok = false;  // says nothing of a unary call; its status does
    while (queue_.Next(&tag, &ok)) {
      LoadCall* const call = static_cast<LoadCall*>(tag);
      call->Count(LoadClock::now(), gave_up_, receiver_, shared_);
      calls_.GiveBack(call);
    }
  }

  // Waits for what is in flight; after the grace period, or at once when interrupted, cancels it.
  void Drain() {
    const LoadClock::time_point give_up_at = LoadClock::now() + kLoadGrace;
    while (!calls_.AllBack()) {
      const LoadClock::time_point now = LoadClock::now();
      cancels_.CancelDue(now);
      if (!gave_up_ && (shared_.stop || now >= give_up_at)) {
        gave_up_ = true;
        calls_.CancelAll();
      }
      std::this_thread::sleep_until(cancels_.NextAt(now + milliseconds(2)));
    }
  }

  LoadShared& shared_;
  LatencyRecorder sender_;    // of the sending thread
  LatencyRecorder receiver_;  // of the receiving thread
  FreeCalls calls_;
  Pacer pacer_;
  CancelList cancels_;
  std::deque<grpc::GenericStub> stubs_;
  std::atomic<bool> gave_up_{false};
  grpc::CompletionQueue queue_;
};

}  // namespace

std::unique_ptr<LoadWorker> MakeOpenLoopWorker(LoadShared& shared, int index) {
  return std::make_unique<OpenLoopWorker>(shared, index);
}

}  // namespace headlight::client
