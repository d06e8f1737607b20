// SPDX-License-Identifier: Apache-2.0
//
// gRPC's own settings.
#ifndef HEADLIGHT_SERVER_RPC_TRANSPORT_H_
#define HEADLIGHT_SERVER_RPC_TRANSPORT_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>

namespace headlight {

struct TransportOptions {
  int64_t max_message_bytes = 0;
  int64_t receive_window_bytes = 0;  // of each stream: what of a message arrives before somebody reads it
  // What gRPC's buffers may take in all before it breaks off calls and connections by chance: the net below
  // ArrivalWatch, for connections whose bytes cannot be counted.
  int64_t connections_bytes = 0;
  // Of each connection:
  int64_t max_streams = 256;           // calls at a time
  int64_t max_header_bytes = 16384;    // of one call
  int64_t idle_timeout_s = 0;          // without a call; 0: any
  int64_t max_connection_age_s = 0;    // after which callers are asked to connect anew; 0: any
  int64_t connection_age_grace_s = 0;  // for calls that are under way then; 0: any
};

void SetTransport(const TransportOptions& options, grpc::ServerBuilder& builder);


}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_TRANSPORT_H_
