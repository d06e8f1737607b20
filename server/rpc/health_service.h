// SPDX-License-Identifier: Apache-2.0
//
// grpc.health.v1.Health: of the server as a whole for everybody, of single models for who may see them.
#ifndef HEADLIGHT_SERVER_RPC_HEALTH_SERVICE_H_
#define HEADLIGHT_SERVER_RPC_HEALTH_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/rpc/health_board.h"
#include "server/security/gate.h"

namespace headlight {

// Thread-safe.
class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  static constexpr int64_t kMaxWatchers = 4096;

  // Both must outlive it. "models/NAME" and "models/NAME/VERSION" follow the rights to NAME that the call's
  // token has; what it may not see is answered as what does not exist.
  HealthService(HealthBoard& board, const Gate& gate) : board_(board), gate_(gate) {}

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;

  // What may be seen. Never fails.
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const grpc::health::v1::HealthListRequest* request,
                                 grpc::health::v1::HealthListResponse* response) override;

  // Whoever reads slowly gets the latest state and none of those in between. RESOURCE_EXHAUSTED: there are
  // kMaxWatchers.
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context, const grpc::health::v1::HealthCheckRequest* request) override;

 private:
  bool MaySee(const grpc::CallbackServerContext& context, const std::string& service) const;

  HealthBoard& board_;
  const Gate& gate_;
  std::atomic<int64_t> num_watchers_{0};
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_HEALTH_SERVICE_H_
