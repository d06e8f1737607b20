// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/exchange_service.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/control_call.h"
#include "server/rpc/exchange.h"

namespace headlight {
namespace {

std::string PathOf(const std::string& service, const std::string& method) {
  return absl::StrCat("/", service, "/", method);
}

}  // namespace

ExchangeService::ExchangeService(const Pipeline& pipeline)
    : pipeline_(pipeline),
      arrivals_(pipeline.memory, pipeline.clock,
                [connections = pipeline.connections](const std::string& peer) {
                  return connections == nullptr ? std::nullopt : connections->ReceivedFrom(peer);
                },
                {.max_message_bytes = pipeline.max_message_bytes}) {
  arrivals_.Start();
}

void ExchangeService::Add(std::unique_ptr<const Face> face) {
  std::string path = PathOf(face->service(), face->method());
  faces_[std::move(path)] = std::move(face);
}

void ExchangeService::Add(const std::string& service, const std::string& name, ControlMethod method) {
  control_methods_[PathOf(service, name)] = std::move(method);
}

grpc::ServerGenericBidiReactor* ExchangeService::CreateReactor(grpc::GenericCallbackServerContext* context) {
  const auto face = faces_.find(context->method());
  if (face != faces_.end()) return Exchange::Begin(pipeline_, ledger_, arrivals_, *face->second, *context);
  const auto method = control_methods_.find(context->method());
  if (method != control_methods_.end()) {
    return ControlCall::Begin(pipeline_, arrivals_, method->second, *context);
  }
  return CallbackGenericService::CreateReactor(context);
}

}  // namespace headlight
