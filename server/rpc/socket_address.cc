// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/socket_address.h"

#include <arpa/inet.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace headlight {
namespace {

constexpr size_t kNetworkBytes = 8;

std::string Text(int family, const void* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(family, address, text.data(), text.size());
  return text.data();
}

Peer PeerV4(const void* address, int port) {
  const std::string text = Text(AF_INET, address);
  return {absl::StrCat("ipv4:", text, ":", port), text};
}

}  // namespace

Peer PeerOf(int fd) {
  SocketAddress peer{};
  socklen_t size = sizeof(peer);
  if (getpeername(fd, &peer.any, &size) != 0) return {};
  if (peer.any.sa_family == AF_INET) return PeerV4(&peer.v4.sin_addr, ntohs(peer.v4.sin_port));
  if (peer.any.sa_family != AF_INET6) return {};
  const int port = ntohs(peer.v6.sin6_port);
  in6_addr address = peer.v6.sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&address)) return PeerV4(&address.s6_addr[12], port);
  Peer result;
  result.name = absl::StrCat("ipv6:[", Text(AF_INET6, &address), "]:", port);
  std::memset(&address.s6_addr[kNetworkBytes], 0, sizeof(address) - kNetworkBytes);
  result.party = absl::StrCat(Text(AF_INET6, &address), "/64");
  return result;
}

std::string UnescapedPeer(const std::string& peer) {
  return absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}});
}

int PortOf(int fd) {
  SocketAddress address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, &address.any, &size) != 0) return 0;
  if (address.any.sa_family == AF_INET) return ntohs(address.v4.sin_port);
  return address.any.sa_family == AF_INET6 ? ntohs(address.v6.sin6_port) : 0;
}

}  // namespace headlight
