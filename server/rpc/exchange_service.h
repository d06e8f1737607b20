// SPDX-License-Identifier: Apache-2.0
//
// Which face serves which method. Methods are registered beside this as generic ones, so that reflection
// lists them.
#ifndef HEADLIGHT_SERVER_RPC_EXCHANGE_SERVICE_H_
#define HEADLIGHT_SERVER_RPC_EXCHANGE_SERVICE_H_

#include <grpcpp/generic/async_generic_service.h>

#include <memory>
#include <string>
#include <unordered_map>

#include "server/request/face.h"
#include "server/rpc/arrival_watch.h"
#include "server/rpc/call_ledger.h"
#include "server/rpc/pipeline.h"

namespace headlight {

// Thread-safe once all faces are added.
class ExchangeService final : public grpc::CallbackGenericService {
 public:
  explicit ExchangeService(const Pipeline& pipeline);

  // Serves the method that the face names.
  void Add(std::unique_ptr<const Face> face);

  // UNIMPLEMENTED for methods without a face.
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override;

  CallLedger& ledger() { return ledger_; }

 private:
  const Pipeline pipeline_;
  CallLedger ledger_;
  ArrivalWatch arrivals_;
  // By path, as on the wire: "/headlight.v1.AttentionService/Attend".
  std::unordered_map<std::string, std::unique_ptr<const Face>> faces_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_EXCHANGE_SERVICE_H_
