// SPDX-License-Identifier: Apache-2.0
#include "server/memory/periodic_trim.h"

#include <malloc.h>

#include <utility>

namespace headlight {

PeriodicTrim::PeriodicTrim(std::chrono::steady_clock::duration period, std::function<int64_t()> trim)
    : period_(period), trim_(std::move(trim)), thread_([this] { Run(); }) {}

PeriodicTrim::~PeriodicTrim() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_one();
  thread_.join();
}

void PeriodicTrim::Run() {
  std::unique_lock lock(mutex_);
  while (!stop_.wait_for(lock, period_, [this] { return stopping_; })) {
    lock.unlock();
    if (trim_() > 0) malloc_trim(0);
    lock.lock();
  }
}

}  // namespace headlight
