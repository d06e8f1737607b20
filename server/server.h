// SPDX-License-Identifier: Apache-2.0
//
// The whole server in one object: arenas, models, scheduler, services, listening socket; and the order in
// which they go.
#ifndef HEADLIGHT_SERVER_SERVER_H_
#define HEADLIGHT_SERVER_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/runtime/compute_arena.h"
#include "core/runtime/periodic.h"
#include "server/attend/attention_service.h"
#include "server/batch/batch_executor.h"
#include "server/batch/batch_lane.h"
#include "server/batch/canary_watch.h"
#include "server/memory/buffer_pool.h"
#include "server/memory/heap_trim.h"
#include "server/memory/memory_budget.h"
#include "server/models/model_loader.h"
#include "server/models/registry.h"
#include "server/observe/load_report.h"
#include "server/observe/load_watch.h"
#include "server/observe/metrics.h"
#include "server/observe/model_tally.h"
#include "server/observe/recent_errors.h"
#include "server/observe/request_log.h"
#include "server/observe/span_export.h"
#include "server/oip/inference_service.h"
#include "server/oip/shared_memory.h"
#include "server/program/admin_site.h"
#include "server/program/fit_limits.h"
#include "server/program/options.h"
#include "server/rpc/connection_book.h"
#include "server/rpc/exchange_service.h"
#include "server/rpc/flood_guard.h"
#include "server/rpc/health_board.h"
#include "server/rpc/health_service.h"
#include "server/rpc/lifecycle.h"
#include "server/rpc/listener.h"
#include "server/rpc/load_service.h"
#include "server/rpc/pulse.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"
#include "server/security/gate.h"
#include "server/security/tls_credentials.h"

namespace headlight {

// Listening and serving from Start until Shutdown or destruction.
class HeadlightServer {
 public:
  using OnLoading = LoadWatch::OnLoading;

  // Listens at once, with health at NOT_SERVING, then serves the models of `registry`; without one, those of
  // the options' model repository or else the built-in ones that they name. Logs the address, the threads and
  // each model; models of the repository that cannot be loaded are logged and left out. UNAVAILABLE: cannot
  // listen there. INVALID_ARGUMENT: TLS files or limits are wrong, of connections or as FitLimits finds, or
  // CheckOtlpEndpoint says so. NOT_FOUND: there is no such repository. Others as MakeBuiltInModel and, for
  // models that are not of the repository, as ComputeCanary. `before_serving`, if there is one, is called once
  // models are loaded: until then there is nothing that a shutdown would have to finish. `on_loading` hears
  // the name of each model of a folder before it is read, from the thread that loads.
  static absl::StatusOr<std::unique_ptr<HeadlightServer>> Start(
      const ServerOptions& options, std::shared_ptr<ModelRegistry> registry = nullptr,
      const std::function<void()>& before_serving = nullptr, OnLoading on_loading = nullptr);

  // Cuts off what is still running; call Shutdown first to avoid that.
  ~HeadlightServer();

  // The port it listens on, picked if the options said 0.
  int port() const { return port_; }

  int admin_port() const { return admin_.port(); }  // 0: there is none

  // Requests that were admitted and are not answered yet.
  int64_t num_unfinished() { return scheduler_.num_unfinished(); }

  // Whom calls are admitted for; thread-safe. Its tokens may be exchanged while it serves.
  Gate& gate() { return gate_; }

  // Whether what waits is being computed; false for a moment between two batches too. Does not return where
  // the scheduler stands still with its lock held. For watchdogs.
  bool Turns() const;

  // Lifecycle::Drain, and abandons what is being loaded at its next step. Call it once.
  absl::Status Shutdown();

 private:
  HeadlightServer(const ServerOptions& options, std::shared_ptr<ModelRegistry> registry,
                  const MachineLimits& machine, const ConnectionLimits& connections,
                  std::shared_ptr<TlsCredentials> tls, OnLoading on_loading);
  LoadNow Load() const;
  absl::Status Listen();
  absl::Status LoadModels(bool registry_given);
  void ServeModels();
  void KeepHouse();
  void TellVerdict(const std::string& model, const absl::Status& verdict);  // of the canary
  void MeasurePeakOnce();  // a second after the start or later, when there is nothing else to compute

  // In the order of their dependencies: what is below uses what is above.
  const ServerOptions options_;
  const SteadyClock clock_;
  MemoryBudget memory_;
  Gate gate_;
  const std::shared_ptr<ModelRegistry> registry_;  // shared with whoever loads models
  Metrics metrics_;
  LoadWatch loads_;
  RecentErrors errors_;
  std::unique_ptr<ModelLoader> loader_;  // null without a folder to load from
  ModelTallies tallies_;
  LoadReporter load_;
  const std::unique_ptr<SpanExport> spans_;  // null: spans go nowhere
  RequestLog requests_;
  BufferPool pool_;
  const std::unique_ptr<SharedMemoryRegions> regions_;  // null: shared memory is not allowed
  ComputeArena arena_;
  ComputeArena long_arena_;  // whose threads stand still while those of arena_ compute
  AttentionExecutor executor_;
  AttentionExecutor long_executor_;
  BatchLane lane_;
  BatchLane long_lane_;
  Scheduler scheduler_;
  CanaryWatch canaries_;
  ConnectionBook connections_;
  const std::shared_ptr<TlsCredentials> tls_;  // null: plain text
  HealthBoard health_;
  AttentionService service_;
  InferenceService inference_service_;
  ExchangeService exchanges_;
  LoadService load_service_;
  HealthService health_service_;
  const std::vector<std::unique_ptr<grpc::Service>> reflection_;
  AdminSite admin_;
  const Pulse pulse_;
  std::unique_ptr<grpc::Server> grpc_server_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<FloodGuard> flood_guard_;
  std::unique_ptr<Lifecycle> lifecycle_;
  int port_ = 0;
  bool peak_measured_ = false;            // of housekeeping_
  HeapTrim heap_trim_;                    // of housekeeping
  Periodic housekeeping_;                 // it and what follows are last: they use what is above
  std::unique_ptr<Periodic> look_again_;  // at canaries_; null: never
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVER_H_
