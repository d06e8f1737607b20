// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/transport.h"

#include <arpa/inet.h>
#include <grpcpp/resource_quota.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/rpc/socket_bytes.h"

namespace headlight {
namespace {

constexpr char kUnix[] = "unix:";

// Below a few megabytes gRPC closes connections that nobody has overcharged.
constexpr int64_t kLeastQuotaBytes = int64_t{32} << 20;

union SocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
  sockaddr_un local;
};

// The path of "unix:PATH" or "unix:///PATH".
std::optional<std::string> SocketPath(const std::string& listen) {
  if (!absl::StartsWith(listen, kUnix)) return std::nullopt;
  const std::string path = listen.substr(std::strlen(kUnix));
  return absl::StartsWith(path, "//") ? path.substr(2) : path;
}

// Whether the socket `fd` is bound to `listen`, as a listener is and what it has accepted.
bool IsBoundTo(int fd, const std::string& listen, int port) {
  SocketAddress address;
  std::memset(&address, 0, sizeof(address));
  socklen_t size = sizeof(address);
  if (getsockname(fd, &address.any, &size) != 0) return false;
  const std::optional<std::string> path = SocketPath(listen);
  switch (address.any.sa_family) {
    case AF_INET:
      return !path && ntohs(address.v4.sin_port) == port;
    case AF_INET6:
      return !path && ntohs(address.v6.sin6_port) == port;
    case AF_UNIX:
      return path && *path == address.local.sun_path;
    default:
      return false;
  }
}

bool IsListener(int fd) {
  int listening = 0;
  socklen_t size = sizeof(listening);
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0;
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
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // else two servers share a port without a word
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 256);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  // Probing for the bandwidth-delay product costs a fifth of the CPU of receiving a megabyte, and lets the
  // window grow past payloads that are to be refused unread.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES,
                             static_cast<int>(options.receive_window_bytes));
}

std::string WithPort(const std::string& listen, int port) {
  if (SocketPath(listen)) return listen;
  const size_t colon = listen.rfind(':');
  return absl::StrCat(listen.substr(0, colon), ":", port);
}

void RemoveStaleSocket(const std::string& listen) {
  const std::optional<std::string> path = SocketPath(listen);
  SocketAddress address;
  struct stat facts;
  if (!path || path->size() >= sizeof(address.local.sun_path)) return;
  if (lstat(path->c_str(), &facts) != 0 || !S_ISSOCK(facts.st_mode)) return;
  std::memset(&address, 0, sizeof(address));
  address.local.sun_family = AF_UNIX;
  std::memcpy(address.local.sun_path, path->data(), path->size());
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return;
  const bool answered = connect(probe, &address.any, sizeof(address.local)) == 0;
  close(probe);
  if (!answered) unlink(path->c_str());
}

void CloseSockets(const std::string& listen, int port) {
  for (int fd : OpenDescriptors()) {
    if (IsBoundTo(fd, listen, port) && IsListener(fd)) shutdown(fd, SHUT_RD);  // nobody connects from here on
  }
  for (int fd : OpenDescriptors()) {
    if (IsBoundTo(fd, listen, port) && !IsListener(fd)) shutdown(fd, SHUT_RDWR);
  }
}

}  // namespace headlight
