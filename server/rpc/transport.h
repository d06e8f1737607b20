// SPDX-License-Identifier: Apache-2.0
//
// gRPC's own settings, and the sockets that it listens on and talks through.
#ifndef HEADLIGHT_SERVER_RPC_TRANSPORT_H_
#define HEADLIGHT_SERVER_RPC_TRANSPORT_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>

namespace headlight {

struct TransportOptions {
  int64_t max_message_bytes = 0;
  int64_t receive_window_bytes = 0;  // of each stream: what of a message arrives before somebody reads it
  // What gRPC's buffers may take in all before it breaks off calls and connections by chance: the net below
  // ArrivalWatch, for connections whose bytes cannot be counted.
  int64_t connections_bytes = 0;
};

void SetTransport(const TransportOptions& options, grpc::ServerBuilder& builder);

// "HOST:PORT" with the port that was picked in place of the one asked for; "unix:PATH" as it is.
std::string WithPort(const std::string& listen, int port);

// Removes the socket of "unix:PATH" if nobody listens on it any more, which keeps others from listening
// there. Nothing for other addresses.
void RemoveStaleSocket(const std::string& listen);

// Stops listening on `listen` (its real port in `port`) and closes what was accepted there. What has been
// written to a connection is still delivered, and whoever has a call under way on it gets UNAVAILABLE: gRPC's
// own Shutdown would answer calls that are just arriving with CANCELLED, since its GOAWAY and their headers
// cross (ADR 0013).
void CloseSockets(const std::string& listen, int port);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_TRANSPORT_H_
