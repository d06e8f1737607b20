// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/transport.h"

#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <cstddef>
#include <limits>

namespace headlight {
namespace {

// Below a few megabytes gRPC closes connections that nobody has overcharged.
constexpr int64_t kLeastQuotaBytes = int64_t{32} << 20;

// 0 s: no limit, as if it were not set.
void SetMilliseconds(const char* argument, int64_t seconds, grpc::ServerBuilder& builder) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  if (seconds > 0) builder.AddChannelArgument(argument, static_cast<int>(std::min(seconds * 1000, kMost)));
}

}  // namespace

void SetTransport(const TransportOptions& options, grpc::ServerBuilder& builder) {
  const int message_bytes = static_cast<int>(options.max_message_bytes);
  builder.SetMaxReceiveMessageSize(message_bytes);
  builder.SetMaxSendMessageSize(message_bytes);
  grpc::ResourceQuota quota("connections");
  quota.Resize(static_cast<size_t>(std::max(options.connections_bytes, kLeastQuotaBytes)));
  builder.SetResourceQuota(quota);
  // Embeddings hardly compress, and a few compressed bytes may unfold to more than any limit. Refused:
  // UNIMPLEMENTED.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(options.max_streams));
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(options.max_header_bytes));
  // Who has connected and says nothing that makes a connection of HTTP/2: no TLS, half of it, no SETTINGS.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10'000);
  SetMilliseconds(GRPC_ARG_MAX_CONNECTION_IDLE_MS, options.idle_timeout_s, builder);
  SetMilliseconds(GRPC_ARG_MAX_CONNECTION_AGE_MS, options.max_connection_age_s, builder);
  SetMilliseconds(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, options.connection_age_grace_s, builder);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Pings are FloodGuard's to bound: gRPC adds an error to those before it for each that is one too many,
  // which takes the square of the pings of a piece that it reads.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 1);  // FloodGuard counts by it
  // Probing for the bandwidth-delay product costs a fifth of the CPU of receiving a megabyte, and lets the
  // window grow past payloads that are to be refused unread.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES,
                             static_cast<int>(options.receive_window_bytes));
}

}  // namespace headlight
