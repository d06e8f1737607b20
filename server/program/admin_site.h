// SPDX-License-Identifier: Apache-2.0
//
// What the admin port shows: gathers the state of the whole server for its pages and its metrics.
#ifndef HEADLIGHT_SERVER_PROGRAM_ADMIN_SITE_H_
#define HEADLIGHT_SERVER_PROGRAM_ADMIN_SITE_H_

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "server/memory/memory_budget.h"
#include "server/models/registry.h"
#include "server/observe/admin_http.h"
#include "server/observe/load_watch.h"
#include "server/observe/metrics.h"
#include "server/observe/recent_errors.h"
#include "server/observe/server_status.h"
#include "server/observe/span_export.h"
#include "server/program/options.h"
#include "server/rpc/call_ledger.h"
#include "server/rpc/connection_book.h"
#include "server/schedule/scheduler.h"
#include "server/security/tls_credentials.h"

namespace headlight {

// Whose state is shown. All of it must outlive the site.
struct AdminSources {
  const ServerOptions& options;
  const ModelRegistry& registry;
  const LoadWatch& loads;
  const MemoryBudget& memory;
  const Scheduler& scheduler;
  const CallLedger& calls;
  const ConnectionBook& connections;
  const RecentErrors& errors;
  const SpanExport* spans = nullptr;    // null: there is none
  const TlsCredentials* tls = nullptr;  // null: plain text
  int compute_threads = 1;
};

// Thread-safe.
class AdminSite {
 public:
  // Has `metrics` watch what the sources count themselves. It must outlive the site, and its Text() must not
  // be called after it.
  AdminSite(const AdminSources& sources, Metrics& metrics);

  // Listens on the options' admin_listen, unless that is empty. An address that nobody has asked for is no
  // reason to fail: if the default one is taken, a warning says so and there is no admin port. Otherwise as
  // AdminHttp::Listen. Once.
  absl::Status Listen();

  int port() const { return http_ == nullptr ? 0 : http_->port(); }  // 0: there is none

  void SetPhase(ServerPhase phase) { phase_.store(phase, std::memory_order_relaxed); }

  // What the canary says of a model that is held: OK, or what is wrong with it.
  void SetVerdict(const std::string& model, const absl::Status& verdict);

  bool IsServing() const { return phase_.load(std::memory_order_relaxed) == ServerPhase::kServing; }

  ServerStatus Status() const;

 private:
  void WatchAll();
  void WatchSpans();
  std::vector<ModelStatus> Models() const;

  const AdminSources sources_;
  Metrics& metrics_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::atomic<ServerPhase> phase_ = ServerPhase::kStarting;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> wrong_;  // guarded by mutex_; why, by model
  std::unique_ptr<AdminHttp> http_;           // last: its threads use what is above
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_PROGRAM_ADMIN_SITE_H_
