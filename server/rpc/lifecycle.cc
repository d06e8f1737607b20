// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/lifecycle.h"

#include <grpcpp/health_check_service_interface.h>

#include <cstdint>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/transport.h"

namespace headlight {
namespace {

// Between the last answer and the closing of sockets: gRPC may still be writing what health watchers are
// told.
constexpr std::chrono::milliseconds kGoodbyeTime{100};

}  // namespace

Lifecycle::Lifecycle(grpc::Server& server, CallLedger& ledger, std::string service, std::string listen,
                     int port)
    : server_(server),
      ledger_(ledger),
      service_(std::move(service)),
      listen_(std::move(listen)),
      port_(port) {
  for (const std::string& whole : {std::string(), service_}) {
    server_.GetHealthCheckService()->SetServingStatus(whole, false);
  }
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

void Lifecycle::Tell() {
  grpc::HealthCheckServiceInterface& health = *server_.GetHealthCheckService();
  bool any_serves = false;
  for (const auto& [model, serving] : health_) {
    health.SetServingStatus(model, serving);
    any_serves |= serving;
  }
  for (const std::string& whole : {std::string(), service_}) health.SetServingStatus(whole, any_serves);
}

absl::Status Lifecycle::Drain(const DrainOptions& options) {
  {
    const std::lock_guard lock(mutex_);
    phase_ = Phase::kClosing;
    server_.GetHealthCheckService()->Shutdown();
  }
  std::this_thread::sleep_for(options.lame_duck);
  ledger_.EndAll();
  const bool finished = ledger_.WaitUntilIdle(options.grace);
  const int64_t cut_off = ledger_.num_calls();
  if (finished) std::this_thread::sleep_for(kGoodbyeTime);
  CloseSockets(listen_, port_);
  server_.Shutdown(std::chrono::system_clock::now());
  if (finished) return absl::OkStatus();
  const double grace_s = std::chrono::duration<double>(options.grace).count();
  return absl::DeadlineExceededError(
      absl::StrCat(cut_off, " requests were cut off after ", grace_s, " s (--shutdown-grace-s)"));
}

}  // namespace headlight
