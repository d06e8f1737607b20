// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/name_watch.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace headlight::client {

struct NameWatch::State {
  std::mutex mutex;
  std::condition_variable stopped;
  bool stop = false;  // guarded by mutex
};

NameWatch::NameWatch(LookUpFunction look_up, std::chrono::milliseconds interval,
                     std::function<void(const std::vector<std::string>&)> on_addresses)
    : state_(std::make_shared<State>()) {
  // Detached, because DNS may keep it for as long as a minute and nobody wants to wait for that at the end.
  std::thread([state = state_, look_up = std::move(look_up), interval,
               on_addresses = std::move(on_addresses)]() mutable {
    while (true) {
      const std::vector<std::string> addresses = look_up();
      std::unique_lock lock(state->mutex);
      if (!state->stop) on_addresses(addresses);
      if (state->stopped.wait_for(lock, interval, [&] { return state->stop; })) return;
    }
  }).detach();
}

NameWatch::~NameWatch() {
  const std::lock_guard lock(state_->mutex);
  state_->stop = true;
  state_->stopped.notify_one();
}

}  // namespace headlight::client
