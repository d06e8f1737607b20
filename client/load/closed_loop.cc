// SPDX-License-Identifier: Apache-2.0
#include <grpc/support/time.h>
#include <grpcpp/alarm.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "client/load/latency_recorder.h"
#include "client/load/load_call.h"
#include "client/load/load_worker.h"

namespace headlight::client {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kMaxPause{10};  // after a refusal
constexpr int kEventsPerLook = 32;
constexpr milliseconds kPollInterval{20};  // how late the end of the window or `stop` may be noticed

// One of the requests in flight: sends it, pauses after a refusal, sends it again.
struct Slot : LoadCall {
  grpc::GenericStub* stub = nullptr;
  enum class State { kIdle, kInFlight, kPausing } state = State::kIdle;
  int refusals_in_a_row = 0;
  grpc::Alarm pause;
};

// One thread and one completion queue, so nothing in it needs a lock.
class ClosedLoopWorker final : public LoadWorker {
 public:
  ClosedLoopWorker(LoadShared& shared, int index)
      : shared_(shared), index_(index), recorder_(shared.window, shared.timeline_width) {
    const LoadPlan& plan = shared.plan;
    const int num_channels = static_cast<int>(plan.channels.size());
    for (int i = 0; i < plan.concurrency; ++i) {
      const int channel_idx = i % num_channels;
      if (channel_idx % shared.num_workers != index) continue;
      const auto first = static_cast<size_t>(channel_idx / shared.num_workers);
      if (first == stubs_.size()) stubs_.emplace_back(plan.channels[static_cast<size_t>(channel_idx)]);
      slots_.emplace_back().stub = &stubs_[first];
    }
  }

  ~ClosedLoopWorker() override {
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  void Run() override {
    for (Slot& slot : slots_) Send(slot, LoadClock::now());
    while (!shared_.stop && busy_ > 0 && now_ < shared_.window.end) {
      if (Slot* slot = NextEvent(shared_.window.end)) Advance(*slot);
    }
    Drain();
  }

  LoadResult TakeResult() override { return std::move(recorder_.result()); }
  LoadClock::time_point last_end() const override { return recorder_.last_end(); }

 private:
  // Sends a request, unless all that were to be counted are under way.
  void Send(Slot& slot, LoadClock::time_point free_since) {
    if (slot.state == Slot::State::kIdle) ++busy_;
    if (shared_.plan.count > 0 && free_since >= shared_.window.begin &&
        shared_.tickets.fetch_sub(1, std::memory_order_relaxed) <= 0) {
      slot.state = Slot::State::kIdle;
      --busy_;
      return;
    }
    slot.state = Slot::State::kInFlight;
    const RequestChoice choice = shared_.plan.mix.Choose(next_number_++ * shared_.num_workers + index_);
    const SentRequest request =
        slot.Start(*slot.stub, shared_.plan.pool[choice.request], choice, free_since, queue_);
    if (choice.cancel_after) {
      cancels_.Add(request.sent + *choice.cancel_after, slot);
      is_clock_stale_ = true;  // it may be due before we would wake
    }
    recorder_.Sent(request);
    shared_.sent.fetch_add(1, std::memory_order_relaxed);
  }

  // The slot whose request ended or whose pause is over; null if nothing happens for a while. Looking at the
  // clock for each of many events would cost more than they do: one that has passed only means not to wait.
  Slot* NextEvent(LoadClock::time_point deadline) {
    if (is_clock_stale_ || ++num_events_ % kEventsPerLook == 0) {
      is_clock_stale_ = false;
      now_ = LoadClock::now();
      cancels_.CancelDue(now_);
      deadline = std::min({deadline, now_ + kPollInterval, cancels_.NextAt(deadline)});
      const auto wait = std::chrono::ceil<std::chrono::microseconds>(deadline - now_);
      wake_at_ = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_micros(wait.count(), GPR_TIMESPAN));
    }
    void* tag = nullptr;
    bool ok = false;  // says nothing of a unary call; its status does
    if (queue_.AsyncNext(&tag, &ok, wake_at_) == grpc::CompletionQueue::GOT_EVENT) {
      return static_cast<Slot*>(static_cast<LoadCall*>(tag));
    }
    is_clock_stale_ = true;
    return nullptr;
  }

  void Advance(Slot& slot) {
    now_ = LoadClock::now();
    if (slot.state == Slot::State::kPausing || slot.Count(now_, false, recorder_, shared_)) {
      if (slot.state == Slot::State::kInFlight) slot.refusals_in_a_row = 0;
      Send(slot, now_);
    } else {
      Pause(slot);
    }
  }

  void Pause(Slot& slot) {
    slot.state = Slot::State::kPausing;
    slot.refusals_in_a_row = std::min(slot.refusals_in_a_row + 1, 10);
    const milliseconds length = std::min(milliseconds(1 << (slot.refusals_in_a_row - 1)), kMaxPause);
    slot.pause.Set(&queue_, std::chrono::system_clock::now() + length, static_cast<LoadCall*>(&slot));
  }

  // Waits for what is under way; after the grace period, or at once when interrupted, cancels it.
  void Drain() {
    const LoadClock::time_point give_up_at = LoadClock::now() + kLoadGrace;
    bool gave_up = false;
    while (busy_ > 0) {
      if (!gave_up && (shared_.stop || LoadClock::now() >= give_up_at)) {
        gave_up = true;
        for (Slot& slot : slots_) slot.CancelAny();
      }
      Slot* const slot = NextEvent(LoadClock::time_point::max());
      if (slot == nullptr) continue;
      if (slot->state == Slot::State::kInFlight) slot->Count(LoadClock::now(), gave_up, recorder_, shared_);
      slot->state = Slot::State::kIdle;
      --busy_;
    }
  }

  LoadShared& shared_;
  const int index_;
  LatencyRecorder recorder_;
  CancelList cancels_;
  int64_t next_number_ = 0;
  int busy_ = 0;  // slots that are not idle
  int64_t num_events_ = 0;
  LoadClock::time_point now_;  // as last looked at
  bool is_clock_stale_ = true;
  gpr_timespec wake_at_ = {};
  std::deque<grpc::GenericStub> stubs_;
  std::deque<Slot> slots_;
  grpc::CompletionQueue queue_;
};

}  // namespace

std::unique_ptr<LoadWorker> MakeClosedLoopWorker(LoadShared& shared, int index) {
  return std::make_unique<ClosedLoopWorker>(shared, index);
}

}  // namespace headlight::client
