// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/fleet/steady_load.h"

#include <algorithm>
#include <utility>

namespace headlight::e2e {

using namespace std::chrono_literals;
using std::chrono::duration_cast;

SteadyLoad::SteadyLoad(const Client& client, int requests_per_s, std::chrono::milliseconds timeout)
    : client_(client), interval_(1'000'000'000ns / requests_per_s), timeout_(timeout) {
  sender_ = std::thread([this] { Send(); });
}

void SteadyLoad::Stop() {
  stopping_ = true;
  if (sender_.joinable()) sender_.join();
  while (under_way_ > 0) std::this_thread::sleep_for(1ms);  // each ends, as it has a timeout
}

void SteadyLoad::Send() {
  const client::Tensor query{.shape = {1, 4, 768}, .values = std::vector<float>(4 * 768, 0.5f)};
  for (SteadyTime due = std::chrono::steady_clock::now(); !stopping_; due += interval_) {
    std::this_thread::sleep_until(due);
    ++under_way_;
    client_.AttendAsync({.model = "demo", .query = query.View()}, timeout_,
                        [this, due](const absl::StatusOr<AttendReply>& reply) {
                          const auto latency = std::chrono::steady_clock::now() - due;
                          Note({due, duration_cast<std::chrono::microseconds>(latency), reply.status()});
                          --under_way_;
                        });
  }
}

void SteadyLoad::Note(LoadedCall call) {
  const std::lock_guard lock(mutex_);
  calls_.push_back(std::move(call));
}

std::vector<LoadedCall> SteadyLoad::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

std::chrono::milliseconds SteadyLoad::P99(SteadyTime begin, SteadyTime end) const {
  std::vector<std::chrono::microseconds> latencies;
  for (const LoadedCall& call : calls()) {
    if (begin <= call.due && call.due < end) latencies.push_back(call.latency);
  }
  if (latencies.empty()) return std::chrono::milliseconds::max();
  const auto rank = latencies.begin() + static_cast<std::ptrdiff_t>(latencies.size() * 99 / 100);
  std::nth_element(latencies.begin(), rank, latencies.end());
  return duration_cast<std::chrono::milliseconds>(*rank);
}

}  // namespace headlight::e2e
