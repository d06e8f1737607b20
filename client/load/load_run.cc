// SPDX-License-Identifier: Apache-2.0
#include "client/load/load_run.h"

#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "client/load/load_worker.h"

namespace headlight::client {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr int kMaxWorkers = 4;  // one carries tens of thousands of small requests a second
constexpr milliseconds kProgressInterval{500};
constexpr int kTimelineBins = 100;

int NumWorkers(const LoadPlan& plan) {
  const int cpus = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));  // heeds affinity
  const int workers = std::min({kMaxWorkers, cpus, static_cast<int>(plan.channels.size())});
  return plan.concurrency > 0 ? std::min(workers, plan.concurrency) : workers;
}

nanoseconds CpuTime() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

// CPU time of this process over the measured window.
class CpuMeter {
 public:
  // Looks at the clocks until the window has been over once: what comes after it is no part of it.
  void Tick(const Window& window, LoadClock::time_point now) {
    if (now < window.begin || ended_) return;
    end_ = {now, CpuTime()};
    if (!began_) begin_ = end_;
    began_ = true;
    ended_ = now >= window.end;
  }

  double cores() const {
    const nanoseconds wall = end_.wall - begin_.wall;
    return wall.count() > 0
               ? static_cast<double>((end_.cpu - begin_.cpu).count()) / static_cast<double>(wall.count())
               : 0;
  }

 private:
  struct Reading {
    LoadClock::time_point wall;
    nanoseconds cpu{0};
  };
  bool began_ = false, ended_ = false;
  Reading begin_, end_;
};

// Lets the workers run, watching, until all are done.
class Crew {
 public:
  Crew(LoadShared& shared, std::vector<std::unique_ptr<LoadWorker>>& workers) : shared_(shared) {
    running_ = workers.size();
    for (const auto& worker : workers) {
      threads_.emplace_back([this, &worker] {
        worker->Run();
        const std::lock_guard lock(mutex_);
        if (--running_ == 0) all_done_.notify_one();
      });
    }
  }

  void Watch(const std::function<void(const LoadProgress&)>& on_progress, CpuMeter& cpu) {
    std::unique_lock lock(mutex_);
    LoadClock::time_point report_at = shared_.start + kProgressInterval;
    while (running_ > 0) {
      const LoadClock::time_point now = LoadClock::now();
      cpu.Tick(shared_.window, now);
      if (on_progress && now >= report_at) {
        report_at = now + kProgressInterval;
        on_progress(Progress(now));
      }
      LoadClock::time_point wake_at = now + kProgressInterval;
      for (LoadClock::time_point edge : {shared_.window.begin, shared_.window.end}) {
        if (now < edge) wake_at = std::min(wake_at, edge);
      }
      all_done_.wait_until(lock, wake_at, [&] { return running_ == 0; });
    }
    cpu.Tick(shared_.window, LoadClock::now());
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  LoadProgress Progress(LoadClock::time_point now) const {
    return {.elapsed = now - shared_.start,
            .planned = shared_.plan.count > 0 ? nanoseconds(0) : shared_.plan.warmup + shared_.plan.duration,
            .sent = shared_.sent,
            .replies = shared_.replies,
            .refused = shared_.refused};
  }

  LoadShared& shared_;
  std::mutex mutex_;
  std::condition_variable all_done_;
  size_t running_ = 0;
  std::vector<std::thread> threads_;
};

nanoseconds TimelineWidth(const LoadPlan& plan) {
  if (plan.timeline_width.count() > 0) return plan.timeline_width;
  const nanoseconds least = std::chrono::seconds(1);
  return plan.count > 0 ? least : std::max<nanoseconds>(least, nanoseconds(plan.duration) / kTimelineBins);
}

}  // namespace

LoadResult RunLoad(const LoadPlan& given, const std::atomic<bool>& stop,
                   const std::function<void(const LoadProgress&)>& on_progress) {
  LoadPlan plan = given;
  plan.mix.pool_size = plan.pool.size();
  LoadShared shared{.plan = plan, .stop = stop};
  shared.num_workers = NumWorkers(plan);
  shared.timeline_width = TimelineWidth(plan);
  shared.start = LoadClock::now();
  shared.window.begin = shared.start + plan.warmup;
  shared.window.end = plan.count > 0 ? LoadClock::time_point::max() : shared.window.begin + plan.duration;
  shared.tickets = plan.count;
  std::vector<std::unique_ptr<LoadWorker>> workers;
  for (int i = 0; i < shared.num_workers; ++i) {
    workers.push_back(plan.concurrency > 0 ? MakeClosedLoopWorker(shared, i) : MakeOpenLoopWorker(shared, i));
  }
  CpuMeter cpu;
  Crew(shared, workers).Watch(on_progress, cpu);

  LoadResult total;
  total.timeline = Timeline(shared.timeline_width);
  LoadClock::time_point ended_at;
  for (const auto& worker : workers) {
    total.Merge(worker->TakeResult());
    ended_at = std::max(ended_at, worker->last_end());
  }
  // A count ends with its last reply, a window at its end, and Ctrl-C ends either.
  if (plan.count == 0) {
    ended_at = stop ? std::min(LoadClock::now(), shared.window.end) : shared.window.end;
  }
  total.measured = std::max<nanoseconds>(ended_at - shared.window.begin, nanoseconds(0));
  total.cpu_cores = cpu.cores();
  total.threads = shared.num_workers * (plan.concurrency > 0 ? 1 : 2);
  total.cpus = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return total;
}

}  // namespace headlight::client
