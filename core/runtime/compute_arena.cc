// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/compute_arena.h"

#include <omp.h>
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(HEADLIGHT_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
#endif

#include <algorithm>
#include <vector>

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
#else
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
};

// Makes OpenMP regions entered by this thread run on it alone, until the end of the scope.
class OneOpenMpThread {
 public:
  OneOpenMpThread() {
    if (saved_ != 1) omp_set_num_threads(1);
  }
  ~OneOpenMpThread() {
    if (saved_ != 1) omp_set_num_threads(saved_);
  }

 private:
  const int saved_ = omp_get_max_threads();
};

// What holds while a body runs. Set around each body, which costs some ten nanoseconds, rather than when a
// thread enters the arena: oneTBB puts its own floating-point control word in force whenever it starts a
// task.
struct BodyScope {
  FlushDenormals flush_denormals;
  OneOpenMpThread one_openmp_thread;
};

// How many bodies, one inside the other, this thread is in.
thread_local int body_depth = 0;

void RunBody(absl::FunctionRef<void(int64_t, int)> body, int64_t item, int worker) {
  const BodyScope scope;
  struct Depth {
    Depth() { ++body_depth; }
    ~Depth() { --body_depth; }
  } const depth;
  body(item, worker);
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

}  // namespace

class ComputeArena::Impl {
 public:
  explicit Impl(int num_threads)
      : process_limit_(tbb::global_control::max_allowed_parallelism,
                       std::max(kProcessThreadLimit, static_cast<size_t>(num_threads))),
        arena_(num_threads, kCallerSlots),
        slots_(num_threads) {}

  void ForEach(int64_t num_items, absl::FunctionRef<void(int64_t, int)> body) {
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
            for (int64_t item = items.begin(); item != items.end(); ++item) RunBody(body, item, worker);
          },
          tbb::simple_partitioner());
    };
    const Order::AcquireAtExit all_done{end};
    start.Release();
    arena_.execute([&] {
      // A body that waits for an inner loop takes none but that loop's items. Else it could start another
      // item of the outer loop on top of the one that waits, and overwrite that one's scratch memory.
      if (body_depth > 0) {
        tbb::this_task_arena::isolate(loop);
      } else {
        loop();
      }
    });
  }

 private:
  static constexpr unsigned kCallerSlots = 1;  // the others are for workers, or for more callers

  tbb::global_control process_limit_;
  tbb::task_arena arena_;
  std::vector<Order> slots_;
};

ComputeArena::ComputeArena(int num_threads)
    : num_threads_(std::max(num_threads, 1)), impl_(std::make_unique<Impl>(num_threads_)) {}

ComputeArena::~ComputeArena() = default;

void ComputeArena::ForEach(int64_t num_items, absl::FunctionRef<void(int64_t, int)> body) {
  if (num_items <= 0) return;
  if (num_threads_ > 1) return impl_->ForEach(num_items, body);
  // oneTBB gives even an arena of one thread two slots, so that it would number a second caller 1.
  for (int64_t item = 0; item < num_items; ++item) RunBody(body, item, 0);
}

}  // namespace headlight
