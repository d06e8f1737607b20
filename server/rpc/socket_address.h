// SPDX-License-Identifier: Apache-2.0
//
// Addresses of sockets, as the system holds them and as gRPC and options write them.
#ifndef HEADLIGHT_SERVER_RPC_SOCKET_ADDRESS_H_
#define HEADLIGHT_SERVER_RPC_SOCKET_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string>

namespace headlight {

union SocketAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
  sockaddr_un local;
  sockaddr_storage storage;
};

// Whom a socket is connected to.
struct Peer {
  // As gRPC's ServerContext::peer() names it, but for escapes: "ipv4:ADDRESS:PORT", "ipv6:[ADDRESS]:PORT".
  // Empty: the connection has no name of its own, as over a unix socket.
  std::string name;
  // Who it counts for: an IPv4 address, or an IPv6 network of 64 bits, which is the least that one party
  // gets. Empty for a unix socket.
  std::string party;
};

// Of a socket that is connected no longer, nothing at all.
Peer PeerOf(int fd);

// The name of a peer as gRPC has it, without its escapes: newer releases write "[" as "%5B".
std::string UnescapedPeer(const std::string& peer);

// The port that a socket is bound to; 0: none.
int PortOf(int fd);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_SOCKET_ADDRESS_H_
