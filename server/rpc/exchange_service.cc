// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/exchange_service.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/exchange.h"

namespace headlight {

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
  std::string path = absl::StrCat("/", face->service(), "/", face->method());
  faces_[std::move(path)] = std::move(face);
}

grpc::ServerGenericBidiReactor* ExchangeService::CreateReactor(grpc::GenericCallbackServerContext* context) {
  const auto face = faces_.find(context->method());
  if (face == faces_.end()) return CallbackGenericService::CreateReactor(context);
  return Exchange::Begin(pipeline_, ledger_, arrivals_, *face->second, *context);
}

}  // namespace headlight
