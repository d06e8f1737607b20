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
class HealthService final
    : public grpc::health::v1::Health::WithRawCallbackMethod_Check<
          grpc::health::v1::Health::WithRawCallbackMethod_List<
              grpc::health::v1::Health::WithRawCallbackMethod_Watch<grpc::health::v1::Health::Service>>> {
 public:
  static constexpr int64_t kMaxWatchers = 4096;

  // Both must outlive it. "models/NAME" and "models/NAME/VERSION" follow the rights to NAME that the call's
  // token has; what it may not see is answered as what does not exist.
  HealthService(HealthBoard& board, const Gate& gate) : board_(board), gate_(gate) {}

  // Requests and responses are messages of grpc.health.v1. Errors as ReadControlMessage.
  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;

  // What may be seen.
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                                 grpc::ByteBuffer* response) override;

  // Whoever reads slowly gets the latest state and none of those in between. RESOURCE_EXHAUSTED also: there are
  // kMaxWatchers.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request) override;

 private:
  bool MaySee(const grpc::CallbackServerContext& context, const std::string& service) const;
  grpc::health::v1::HealthListResponse ListFor(const grpc::CallbackServerContext& context) const;

  HealthBoard& board_;
  const Gate& gate_;
  std::atomic<int64_t> num_watchers_{0};
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_HEALTH_SERVICE_H_
