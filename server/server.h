// SPDX-License-Identifier: Apache-2.0
//
// The whole server in one object: arena, models, scheduler, services, listening socket; and the order in
// which they go.
#ifndef HEADLIGHT_SERVER_SERVER_H_
#define HEADLIGHT_SERVER_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/runtime/compute_arena.h"
#include "server/batch/batch_executor.h"
#include "server/models/model_loader.h"
#include "server/models/registry.h"
#include "server/observe/metrics.h"
#include "server/program/options.h"
#include "server/rpc/attention_service.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"

namespace headlight {

// Listening and serving from Start until Shutdown or destruction.
class HeadlightServer {
 public:
  // Serves the models of `registry`; without one, those of the options' model repository or else the built-in
  // ones that they name. Logs the address, the threads and each model; models of the repository that cannot
  // be loaded are logged and left out. UNAVAILABLE: cannot listen there. NOT_FOUND: there is no such
  // repository. Others as MakeBuiltInModel. `before_listening`, if there is one, is called once models are
  // loaded: until then there is nothing that a shutdown would have to finish.
  static absl::StatusOr<std::unique_ptr<HeadlightServer>> Start(
      const ServerOptions& options, std::shared_ptr<ModelRegistry> registry = nullptr,
      const std::function<void()>& before_listening = nullptr);

  // Cuts off what is still running; call Shutdown first to avoid that.
  ~HeadlightServer();

  // The port it listens on, picked if the options said 0.
  int port() const { return port_; }

  int metrics_port() const { return metrics_->port(); }  // 0 if they are not served

  // Requests that the queue accepted and that are not answered yet.
  int64_t num_unfinished() { return scheduler_.num_unfinished(); }

  // grpc.health.v1 says NOT_SERVING and new requests get UNAVAILABLE from here on; abandons what is being
  // loaded at its next step; waits for all accepted requests, at most shutdown_grace_s, then ends every
  // connection. DEADLINE_EXCEEDED if requests had to be cut off. Call it once.
  absl::Status Shutdown();

 private:
  HeadlightServer(const ServerOptions& options, std::shared_ptr<ModelRegistry> registry,
                  std::unique_ptr<Metrics> metrics, int compute_threads);
  absl::Status Listen();
  void SetHealth(const std::string& service, bool serving);

  // In the order of their dependencies: what is below uses what is above.
  const ServerOptions options_;
  const SteadyClock clock_;
  const std::shared_ptr<ModelRegistry> registry_;  // shared with whoever loads models
  const std::unique_ptr<Metrics> metrics_;
  const std::unique_ptr<ModelLoader> loader_;  // null without a model repository
  ComputeArena arena_;
  AttentionExecutor executor_;
  Scheduler scheduler_;
  AttentionService service_;
  std::unique_ptr<grpc::Server> grpc_server_;
  int port_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVER_H_
