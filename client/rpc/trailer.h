// SPDX-License-Identifier: Apache-2.0
//
// What a server says after its last message.
#ifndef HEADLIGHT_CLIENT_RPC_TRAILER_H_
#define HEADLIGHT_CLIENT_RPC_TRAILER_H_

#include <grpcpp/client_context.h>

#include <optional>
#include <string>

namespace headlight::client {

// The trailer `key` of a call that has ended; nothing: the server did not send it.
inline std::optional<std::string> ReadTrailer(const grpc::ClientContext& context, const char* key) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto found = trailers.find(key);
  if (found == trailers.end()) return std::nullopt;
  return std::string(found->second.data(), found->second.size());
}

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_TRAILER_H_
