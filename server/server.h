// SPDX-License-Identifier: Apache-2.0
//
// The whole server in one object: arena, models, scheduler, services, listening socket; and the order in
// which they go.
#ifndef HEADLIGHT_SERVER_SERVER_H_
#define HEADLIGHT_SERVER_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/runtime/compute_arena.h"
#include "server/attention_service.h"
#include "server/batch_executor.h"
#include "server/clock.h"
#include "server/options.h"
#include "server/registry.h"
#include "server/scheduler.h"

namespace headlight {

// Listening and serving from Start until Shutdown or destruction.
class HeadlightServer {
 public:
  // Serves the models of `registry`; without one, the built-in ones that the options name. Logs the address,
  // the threads and each model. UNAVAILABLE: cannot listen there. Others as MakeBuiltInModel.
  static absl::StatusOr<std::unique_ptr<HeadlightServer>> Start(
      const ServerOptions& options, std::shared_ptr<ModelRegistry> registry = nullptr);

  // Cuts off what is still running; call Shutdown first to avoid that.
  ~HeadlightServer();

  // The port it listens on, picked if the options said 0.
  int port() const { return port_; }

  // Attend RPCs under way.
  int64_t num_calls() const { return service_.num_calls(); }

  // grpc.health.v1 says NOT_SERVING and new requests get UNAVAILABLE from here on; waits for all accepted
  // ones, at most shutdown_grace_s, then ends every connection. DEADLINE_EXCEEDED if requests had to be cut
  // off. Call it once.
  absl::Status Shutdown();

 private:
  HeadlightServer(const ServerOptions& options, std::shared_ptr<ModelRegistry> registry, int compute_threads);
  absl::Status Listen();

  // In the order of their dependencies: what is below uses what is above.
  const ServerOptions options_;
  const SteadyClock clock_;
  const std::shared_ptr<ModelRegistry> registry_;  // shared with whoever loads models
  ComputeArena arena_;
  AttentionExecutor executor_;
  Scheduler scheduler_;
  AttentionService service_;
  std::unique_ptr<grpc::Server> grpc_server_;
  int port_ = 0;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVER_H_
