// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/lifecycle.h"

#include <cstdint>
#include <thread>

#include "absl/strings/str_cat.h"

namespace headlight {
namespace {

// Between the last answer and the closing of sockets: gRPC may still be writing what health watchers are
// told.
constexpr std::chrono::milliseconds kGoodbyeTime{100};

}  // namespace

Lifecycle::Lifecycle(grpc::Server& server, HealthBoard& board, CallLedger& ledger, Listener& listener,
                     ConnectionBook& connections, const std::vector<std::string>& services)
    : server_(server),
      board_(board),
      ledger_(ledger),
      listener_(listener),
      connections_(connections),
      whole_(services) {
  whole_.emplace_back();
  for (const std::string& whole : whole_) board_.Set(whole, false);
}

void Lifecycle::Serve() {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kStarting) return;
  phase_ = Phase::kServing;
  ledger_.Open();
  Tell();
}

void Lifecycle::SetHealth(const std::string& model, bool serving) {
  const std::lock_guard lock(mutex_);
  health_[model] = serving;
  if (phase_ == Phase::kServing) Tell();
}

void Lifecycle::SetRight(const std::string& model, bool right) {
  const std::lock_guard lock(mutex_);
  const bool has_changed = right ? wrong_.erase(model) > 0 : wrong_.insert(model).second;
  if (has_changed && phase_ == Phase::kServing) Tell();
}

void Lifecycle::Tell() {
  bool any_serves = false;
  for (const auto& [model, loaded] : health_) {
    const bool serves = loaded && !wrong_.contains(model);
    board_.Set(model, serves);
    any_serves |= serves;
  }
  for (const std::string& whole : whole_) board_.Set(whole, any_serves);
}

absl::Status Lifecycle::Drain(const DrainOptions& options) {
  {
    const std::lock_guard lock(mutex_);
    phase_ = Phase::kClosing;
    board_.Close();
  }
  std::this_thread::sleep_for(options.lame_duck);
  ledger_.EndAll();
  const bool finished = ledger_.WaitUntilIdle(options.grace);
  const int64_t cut_off = ledger_.num_calls();
  if (finished) std::this_thread::sleep_for(kGoodbyeTime);
  // gRPC's own Shutdown would answer calls that are just arriving with CANCELLED, since its GOAWAY and
  // their headers cross (ADR 0013).
  listener_.Stop();
  connections_.ShutDownAll();
  server_.Shutdown(std::chrono::system_clock::now());
  if (finished) return absl::OkStatus();
  const double grace_s = std::chrono::duration<double>(options.grace).count();
  return absl::DeadlineExceededError(
      absl::StrCat(cut_off, " requests were cut off after ", grace_s, " s (--shutdown-grace-s)"));
}

}  // namespace headlight
