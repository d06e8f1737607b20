// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/compute_arena.h"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>
#include <tbb/task_scheduler_observer.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(HEADLIGHT_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "core/runtime/cpu_placement.h"
#include "core/runtime/idle_calls.h"
#include "core/runtime/openmp.h"
#include "core/runtime/physical_cores.h"

namespace headlight {
namespace {

// oneTBB by itself starts no more workers in a process than the machine has CPUs, however large the arenas
// are. The arenas are what bounds our threads, so that limit is lifted to as many as oneTBB ever starts by
// default.
constexpr size_t kProcessThreadLimit = 256;

// Flushes denormals to zero, as results and as operands, until the end of the scope.
class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() { _mm_setcsr(saved_ | _MM_FLUSH_ZERO_ON | kDenormalsAreZero); }
  ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  static constexpr unsigned kDenormalsAreZero = 0x0040;
  const unsigned saved_ = _mm_getcsr();
#elif defined(__aarch64__)
  FlushDenormals() { Control(saved_ | kFlushToZero); }
  ~FlushDenormals() { Control(saved_); }

 private:
  static constexpr uint64_t kFlushToZero = uint64_t{1} << 24;
  static void Control(uint64_t fpcr) { asm volatile("msr fpcr, %0" : : "r"(fpcr) : "memory"); }
  static uint64_t Control() {
    uint64_t fpcr;
    asm volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
  }
  const uint64_t saved_ = Control();
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
};

// What holds while a body runs. Set around each body, which costs some ten nanoseconds, rather than when a
// thread enters the arena: oneTBB puts its own floating-point control word in force whenever it starts a
// task.
struct BodyScope {
  FlushDenormals flush_denormals;
  OneOpenMpThread one_openmp_thread;
};

// The body that this thread is in, inside the gate of its arena, and the one around it.
class Body {
 public:
  Body(PauseGate& gate, int worker) : gate_(gate), worker_(worker) {
    gate_.Enter(worker_);
    innermost_ = this;
  }
  ~Body() {
    innermost_ = outer_;
    gate_.Leave(worker_);
  }
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  static const Body* Innermost() { return innermost_; }

  // Out of the gate and in again, which waits while it is closed.
  void Park() const {
    gate_.Leave(worker_);
    gate_.Enter(worker_);
  }

  // A thread that waits for inner bodies is not inside the gate: those may be parked, and whoever pauses
  // waits for it. Until the end of the scope, and then inside again.
  class Waits {
   public:
    Waits() : body_(innermost_) {
      if (body_ != nullptr) body_->gate_.Leave(body_->worker_);
    }
    ~Waits() {
      if (body_ != nullptr) body_->gate_.Enter(body_->worker_);
    }
    Waits(const Waits&) = delete;
    Waits& operator=(const Waits&) = delete;

   private:
    const Body* const body_;
  };

 private:
  static thread_local const Body* innermost_;

  PauseGate& gate_;
  const int worker_;
  const Body* const outer_ = innermost_;
};

thread_local const Body* Body::innermost_ = nullptr;

void RunBody(PauseGate& gate, absl::FunctionRef<void(int64_t, int)> body, int64_t item, int worker) {
  const Body entered(gate, worker);
  const BodyScope scope;
  body(item, worker);
}

// One turn of a loop that waits for another thread.
void SpinPause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Tells ThreadSanitizer what oneTBB, whose library is not instrumented, orders by itself: what one thread did
// before Release comes before what another does after Acquire.
struct Order {
#if defined(HEADLIGHT_THREAD_SANITIZER)
  void Release() { __tsan_release(this); }
  void Acquire() { __tsan_acquire(this); }
#else
  void Release() {}
  void Acquire() {}
#endif

  // The same when a scope ends, be it by an exception.
  struct ReleaseAtExit {
    Order& order;
    ~ReleaseAtExit() { order.Release(); }
  };
  struct AcquireAtExit {
    Order& order;
    ~AcquireAtExit() { order.Acquire(); }
  };
};

// Inside of an arena of one thread, which nobody enters or leaves but by calling it. The outermost end is
// where the thread goes idle.
class OnOneThread {
 public:
  OnOneThread() { ++depth_; }
  ~OnOneThread() {
    if (--depth_ == 0) GoIdle();
  }
  OnOneThread(const OnOneThread&) = delete;
  OnOneThread& operator=(const OnOneThread&) = delete;

 private:
  static thread_local int depth_;
};

thread_local int OnOneThread::depth_ = 0;

// Keeps workers awake, without work, for a moment.
class NightWatch {
 public:
  NightWatch() = default;
  // oneTBB may not have begun with them yet.
  ~NightWatch() {
    const Computing ends_it(*this);
    while (on_watch_.load() > 0) std::this_thread::yield();
  }
  NightWatch(const NightWatch&) = delete;
  NightWatch& operator=(const NightWatch&) = delete;

  // At most one set of them at a time. Waking is a favour: where memory is short they sleep on.
  void Call(tbb::task_arena& arena, int num_workers) {
    if (computing_.load(std::memory_order_relaxed) > 0) return;
    end_ns_.store(NowNs() + kWatchNs, std::memory_order_relaxed);
    int none = 0;
    if (!on_watch_.compare_exchange_strong(none, num_workers)) return;
    for (int called = 0; called < num_workers; ++called) {
      try {
        arena.enqueue([this] { Spin(); });
      } catch (const std::bad_alloc&) {
        on_watch_.fetch_sub(num_workers - called);
        return;
      }
    }
  }

  // While there is work, nobody is on watch.
  class Computing {
   public:
    explicit Computing(NightWatch& watch) : watch_(watch) { watch_.computing_.fetch_add(1); }
    ~Computing() { watch_.computing_.fetch_sub(1); }
    Computing(const Computing&) = delete;
    Computing& operator=(const Computing&) = delete;

   private:
    NightWatch& watch_;
  };

 private:
  static constexpr int64_t kWatchNs = 50'000;

  static int64_t NowNs() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  void Spin() {
    while (computing_.load(std::memory_order_relaxed) == 0 &&
           NowNs() < end_ns_.load(std::memory_order_relaxed)) {
      SpinPause();
    }
    on_watch_.fetch_sub(1);  // the last access: this may be gone now
  }

  std::atomic<int> computing_{0};  // calls of ForEach in progress
  std::atomic<int> on_watch_{0};   // workers that spin, or are about to
  std::atomic<int64_t> end_ns_{0};
};

// Gives each slot of an arena a CPU, where there are as many CPUs or cores, and its threads their niceness.
// Observers are told by each thread that enters or leaves the arena.
class Placement final : public tbb::task_scheduler_observer {
 public:
  Placement(tbb::task_arena& arena, int num_threads, int nice)
      : tbb::task_scheduler_observer(arena), places_(PlacesFor(num_threads, PhysicalCores())), nice_(nice) {
    observe(true);
  }
  ~Placement() override { observe(false); }

  void on_scheduler_entry(bool) override {
    StepBack(nice_);
    const int slot = tbb::this_task_arena::current_thread_index();
    if (slot >= 0 && slot < static_cast<int>(places_.size())) {
      PinThisThread(places_[slot]);
    } else {
      ReleaseThisThread();  // a worker may come from an arena that went before the worker had left it
    }
  }
  void on_scheduler_exit(bool) override {
    GoIdle();
    ReleaseThisThread();
  }

 private:
  const std::vector<int> places_;  // by slot; empty: the kernel places them
  const int nice_;
};

}  // namespace

class ComputeArena::Impl {
 public:
  Impl(int num_threads, int nice, PauseGate& gate)
      : gate_(gate),
        process_limit_(tbb::global_control::max_allowed_parallelism,
                       std::max(kProcessThreadLimit, static_cast<size_t>(num_threads))),
        arena_(num_threads, kCallerSlots),
        slots_(num_threads),
        placement_(arena_, num_threads, nice) {}

  void Within(absl::FunctionRef<void()> work) {
    Order start, end;
    const Order::AcquireAtExit done{end};
    start.Release();
    arena_.execute([&] {  // perhaps on another thread
      start.Acquire();
      const Order::ReleaseAtExit work_done{end};
      work();
    });
  }

  void ForEach(int64_t num_items, absl::FunctionRef<void(int64_t, int)> body) {
    const NightWatch::Computing computing(watch_);
    Order start, end;
    const auto loop = [&] {
      tbb::parallel_for(
          tbb::blocked_range<int64_t>(0, num_items, 1),
          [&](const tbb::blocked_range<int64_t>& items) {
            start.Acquire();
            const Order::ReleaseAtExit done{end};
            const int worker = tbb::this_task_arena::current_thread_index();
            slots_[worker]
                .Acquire();  // threads come and go; whoever has a slot comes after those who had it before
            const Order::ReleaseAtExit slot_done{slots_[worker]};
            for (int64_t item = items.begin(); item != items.end(); ++item)
              RunBody(gate_, body, item, worker);
          },
          tbb::simple_partitioner());
    };
    const Order::AcquireAtExit all_done{end};
    start.Release();
    arena_.execute([&] {
      // A body that waits for an inner loop takes none but that loop's items. Else it could start another
      // item of the outer loop on top of the one that waits, and overwrite that one's scratch memory.
      if (Body::Innermost() != nullptr) {
        tbb::this_task_arena::isolate(loop);
      } else {
        loop();
      }
    });
  }

  void Wake() { watch_.Call(arena_, static_cast<int>(slots_.size()) - 1); }

 private:
  static constexpr unsigned kCallerSlots = 1;  // the others are for workers, or for more callers

  PauseGate& gate_;
  tbb::global_control process_limit_;
  tbb::task_arena arena_;
  std::vector<Order> slots_;
  Placement placement_;
  NightWatch watch_;  // the last member: what spins does so in the arena
};

ComputeArena::ComputeArena(int num_threads, int nice)
    : num_threads_(std::max(num_threads, 1)),
      nice_(nice),
      gate_(num_threads_),
      impl_(num_threads_ > 1 ? std::make_unique<Impl>(num_threads_, nice_, gate_) : nullptr) {}

ComputeArena::~ComputeArena() = default;

void ComputeArena::ForEach(int64_t num_items, absl::FunctionRef<void(int64_t, int)> body) {
  if (num_items <= 0) return;
  const Body::Waits outer_body_waits;
  if (impl_ != nullptr) return impl_->ForEach(num_items, body);
  // oneTBB gives even an arena of one thread two slots, so that it would number a second caller 1.
  const OnOneThread on_one_thread;
  for (int64_t item = 0; item < num_items; ++item) RunBody(gate_, body, item, 0);
}

void ComputeArena::Within(absl::FunctionRef<void()> work) {
  if (impl_ != nullptr) return impl_->Within(work);
  const OnOneThread on_one_thread;
  StepBack(nice_);
  work();
}

void ComputeArena::Pause() { gate_.Pause(); }
void ComputeArena::Resume() { gate_.Resume(); }

void ComputeArena::WatchCheckpoints(std::function<void()> watcher) {
  watcher_ = std::move(watcher);
  gate_.SetWatched(watcher_ != nullptr);
}

void ComputeArena::Park() {
  if (watcher_ != nullptr) watcher_();
  if (!gate_.paused()) return;
  if (const Body* const body = Body::Innermost()) return body->Park();
  gate_.WaitUntilOpen();
}

void ComputeArena::Wake() {
  if (impl_ != nullptr && !gate_.paused()) impl_->Wake();
}

}  // namespace headlight
