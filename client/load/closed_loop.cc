// SPDX-License-Identifier: Apache-2.0
#include "client/load/closed_loop.h"

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "client/client.h"
#include "client/wire.h"

namespace headlight::client {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kMaxThreads = 4;             // a thread carries tens of thousands of small requests a second
constexpr milliseconds kMaxPause{10};      // after a refusal
constexpr milliseconds kPollInterval{20};  // how late the end of the window or `stop` may be noticed
constexpr milliseconds kGrace{1000};       // for requests in flight at the end, before they are cancelled

struct Window {
  Clock::time_point begin;
  Clock::time_point end;
};

// One of the requests in flight: sends it, pauses after a refusal, sends it again.
struct Slot {
  explicit Slot(std::shared_ptr<grpc::Channel> channel) : stub(std::move(channel)) {}

  grpc::GenericStub stub;
  enum class State { kIdle, kInFlight, kPausing } state = State::kIdle;
  int refusals_in_a_row = 0;

  // Of the present request; the context is new for each, as gRPC wants it.
  std::optional<grpc::ClientContext> context;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> call;
  grpc::ByteBuffer reply;
  grpc::Status status;
  Clock::time_point sent_at;

  grpc::Alarm pause;
};

// Drives a share of the slots on one thread and one completion queue, so nothing in it needs a lock.
class Worker {
 public:
  Worker(const ClosedLoopPlan& plan, const Window& window, const std::atomic<bool>& stop)
      : plan_(plan), window_(window), stop_(stop) {}

  ~Worker() {
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  void AddSlot(const std::shared_ptr<grpc::Channel>& channel) {
    slots_.push_back(std::make_unique<Slot>(channel));
  }

  LoadResult Run() {
    for (const auto& slot : slots_) Send(*slot);
    while (!stop_ && Clock::now() < window_.end) {
      if (Slot* slot = NextEvent(std::min(window_.end, Clock::now() + kPollInterval))) Advance(*slot);
    }
    const Clock::time_point ended_at = std::min(Clock::now(), window_.end);
    result_.measured = std::max(ended_at - window_.begin, Clock::duration::zero());
    for (const auto& slot : slots_) result_.unfinished += slot->state == Slot::State::kInFlight;
    Drain();
    return std::move(result_);
  }

 private:
  void Send(Slot& slot) {
    slot.state = Slot::State::kInFlight;
    slot.call.reset();
    slot.context.emplace();
    SetTimeout(*slot.context, plan_.timeout);
    slot.reply.Clear();
    slot.sent_at = Clock::now();
    slot.call = slot.stub.PrepareUnaryCall(&*slot.context, kAttendMethod, plan_.request, &queue_);
    slot.call->StartCall();
    slot.call->Finish(&slot.reply, &slot.status, &slot);
  }

  // The slot whose request ended or whose pause is over; null if nothing happens before `deadline`.
  Slot* NextEvent(Clock::time_point deadline) {
    void* tag = nullptr;
    bool ok = false;  // says nothing of a unary call; its status does
    const auto wait = std::chrono::duration_cast<std::chrono::microseconds>(deadline - Clock::now());
    if (queue_.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + wait) !=
        grpc::CompletionQueue::GOT_EVENT) {
      return nullptr;
    }
    return static_cast<Slot*>(tag);
  }

  void Advance(Slot& slot) {
    if (slot.state == Slot::State::kPausing) {
      Send(slot);
      return;
    }
    const Clock::time_point now = Clock::now();
    const absl::StatusOr<v1::AttendResponse> reply =
        slot.status.ok() ? DecodeReplyEnvelope(slot.reply) : ToAbslStatus(slot.status);
    if (window_.begin <= now && now < window_.end) Count(slot, reply, now);
    if (reply.ok()) {
      slot.refusals_in_a_row = 0;
      Send(slot);
    } else {
      Pause(slot);
    }
  }

  void Count(const Slot& slot, const absl::StatusOr<v1::AttendResponse>& reply, Clock::time_point now) {
    if (!reply.ok()) {
      Refusals& refusals = result_.refusals[reply.status().code()];
      if (refusals.count++ == 0) refusals.example = std::string(reply.status().message());
      return;
    }
    result_.latency.Record(now - slot.sent_at);
    result_.reply_bytes += static_cast<int64_t>(slot.reply.Length());
    const v1::TimeBudget& budget = reply->time_budget();
    result_.queue_us += budget.queue_us();
    result_.compute_us += budget.compute_us();
    result_.server_us += budget.total_us();
    result_.batch_requests += budget.batch_requests();
  }

  void Pause(Slot& slot) {
    slot.state = Slot::State::kPausing;
    slot.refusals_in_a_row = std::min(slot.refusals_in_a_row + 1, 10);
    const milliseconds length = std::min(milliseconds(1 << (slot.refusals_in_a_row - 1)), kMaxPause);
    slot.pause.Set(&queue_, std::chrono::system_clock::now() + length, &slot);
  }

  // Waits for what is under way; after the grace period, or at once when interrupted, cancels it.
  void Drain() {
    const Clock::time_point give_up_at = Clock::now() + kGrace;
    size_t busy = slots_.size();
    bool cancelled = false;
    while (busy > 0) {
      if (!cancelled && (stop_ || Clock::now() >= give_up_at)) {
        cancelled = true;
        for (const auto& slot : slots_) {
          if (slot->state == Slot::State::kInFlight) slot->context->TryCancel();
        }
      }
      if (Slot* slot = NextEvent(Clock::now() + kPollInterval)) {
        slot->state = Slot::State::kIdle;
        --busy;
      }
    }
  }

  const ClosedLoopPlan& plan_;
  const Window& window_;
  const std::atomic<bool>& stop_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Slot>> slots_;
  LoadResult result_;
};

}  // namespace

int64_t LoadResult::refused() const {
  int64_t sum = 0;
  for (const auto& [code, refusals_of_code] : refusals) sum += refusals_of_code.count;
  return sum;
}

void LoadResult::Merge(const LoadResult& other) {
  measured = std::max(measured, other.measured);
  latency.Merge(other.latency);
  reply_bytes += other.reply_bytes;
  for (const auto& [code, theirs] : other.refusals) {
    Refusals& ours = refusals[code];
    if (ours.count == 0) ours.example = theirs.example;
    ours.count += theirs.count;
  }
  unfinished += other.unfinished;
  queue_us += other.queue_us;
  compute_us += other.compute_us;
  server_us += other.server_us;
  batch_requests += other.batch_requests;
}

LoadResult RunClosedLoop(const ClosedLoopPlan& plan, const std::atomic<bool>& stop) {
  const Clock::time_point measure_from = Clock::now() + plan.warmup;
  const Window window{.begin = measure_from, .end = measure_from + plan.duration};
  const int num_channels = static_cast<int>(plan.channels.size());
  const int num_threads = std::min({kMaxThreads, num_channels, plan.concurrency});

  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < num_threads; ++i) workers.push_back(std::make_unique<Worker>(plan, window, stop));
  for (int i = 0; i < plan.concurrency; ++i) {
    // A channel's requests stay on one thread: the connection then has one reader.
    const int channel_idx = i % num_channels;
    workers[static_cast<size_t>(channel_idx % num_threads)]->AddSlot(
        plan.channels[static_cast<size_t>(channel_idx)]);
  }

  std::vector<LoadResult> results(workers.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < workers.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = workers[i]->Run(); });
  }
  LoadResult total;
  for (size_t i = 0; i < threads.size(); ++i) {
    threads[i].join();
    total.Merge(results[i]);
  }
  return total;
}

}  // namespace headlight::client
