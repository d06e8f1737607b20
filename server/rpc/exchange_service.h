// SPDX-License-Identifier: Apache-2.0
//
// Which method is served how: those with tensors as exchanges, by their faces, those about the server and its
// models as control calls. gRPC knows of none of them, so it hands over each before it reads a message.
#ifndef HEADLIGHT_SERVER_RPC_EXCHANGE_SERVICE_H_
#define HEADLIGHT_SERVER_RPC_EXCHANGE_SERVICE_H_

#include <grpcpp/generic/async_generic_service.h>

#include <memory>
#include <string>
#include <unordered_map>

#include "server/request/face.h"
#include "server/rpc/arrival_watch.h"
#include "server/rpc/call_ledger.h"
#include "server/rpc/control_method.h"
#include "server/rpc/pipeline.h"

namespace headlight {

// Thread-safe once all methods are added.
class ExchangeService final : public grpc::CallbackGenericService {
 public:
  explicit ExchangeService(const Pipeline& pipeline);

  // Serves the method that the face names.
  void Add(std::unique_ptr<const Face> face);
  void Add(const std::string& service, const std::string& name, ControlMethod method);

  // UNIMPLEMENTED for methods that were not added.
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override;

  CallLedger& ledger() { return ledger_; }

 private:
  const Pipeline pipeline_;
  CallLedger ledger_;
  ArrivalWatch arrivals_;
  // By path, as on the wire: "/headlight.v1.AttentionService/Attend".
  std::unordered_map<std::string, std::unique_ptr<const Face>> faces_;
  std::unordered_map<std::string, ControlMethod> control_methods_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_EXCHANGE_SERVICE_H_
