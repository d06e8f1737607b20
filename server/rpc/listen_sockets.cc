// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/listen_sockets.h"

#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "server/rpc/socket_address.h"

namespace headlight {
namespace {

constexpr char kUnix[] = "unix:";

// Connections that the system may have ready for us; it knows its own limit (net.core.somaxconn).
constexpr int kBacklog = 4096;

// The path of "unix:PATH" or "unix:///PATH".
std::optional<std::string> SocketPath(const std::string& listen) {
  if (!absl::StartsWith(listen, kUnix)) return std::nullopt;
  const std::string path = listen.substr(std::strlen(kUnix));
  return absl::StartsWith(path, "//") ? path.substr(2) : path;
}

absl::Status CannotListen(const std::string& listen, const std::string& why) {
  return absl::UnavailableError(absl::StrCat("--listen: cannot listen on ", Quoted(listen), ": ", why,
                                             "; is it in use, or no address of this machine?"));
}

// Listens there with `listening`; returns what is wrong as errno has it, or 0.
int ListenAt(const sockaddr& address, socklen_t size, Descriptor& listening) {
  const int one = 1;
  Descriptor fd(socket(address.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno;
  if (address.sa_family != AF_UNIX) {
    // No SO_REUSEPORT: two servers would share a port without a word. What is accepted inherits TCP_NODELAY.
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  }
  if (address.sa_family == AF_INET6) {
    const auto& v6 = *static_cast<const sockaddr_in6*>(static_cast<const void*>(&address));
    const int v6_only = IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr) ? 0 : 1;
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof(v6_only));
  }
  if (bind(fd.get(), &address, size) != 0 || ::listen(fd.get(), kBacklog) != 0) return errno;
  listening = std::move(fd);
  return 0;
}

std::optional<SocketAddress> LocalAddress(const std::string& path) {
  SocketAddress address{};
  if (path.empty() || path.size() >= sizeof(address.local.sun_path)) return std::nullopt;
  address.local.sun_family = AF_UNIX;
  std::memcpy(address.local.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<ListenSockets> ListenLocally(const std::string& listen, const std::string& path) {
  const std::optional<SocketAddress> address = LocalAddress(path);
  if (!address) {
    return absl::InvalidArgumentError(absl::StrCat("--listen: got ", Quoted(listen),
                                                   ", wanted a path of 1 to ",
                                                   sizeof(address->local.sun_path) - 1, " bytes"));
  }
  RemoveStaleSocket(listen);
  ListenSockets result;
  const int error = ListenAt(address->any, sizeof(address->local), result.sockets.emplace_back());
  if (error != 0) return CannotListen(listen, std::strerror(error));
  result.path = path;
  return result;
}

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

std::optional<HostPort> SplitHostPort(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  HostPort result;
  result.host = listen.substr(0, colon);
  if (absl::StartsWith(result.host, "[") && absl::EndsWith(result.host, "]")) {
    result.host = result.host.substr(1, result.host.size() - 2);
  } else if (absl::StrContains(result.host, ":")) {
    return std::nullopt;
  }
  int port = 0;
  if (result.host.empty() || !absl::SimpleAtoi(listen.substr(colon + 1), &port)) return std::nullopt;
  if (port < 0 || port > 65535) return std::nullopt;
  result.port = static_cast<uint16_t>(port);
  return result;
}

void SetPort(uint16_t port, SocketAddress& address) {
  (address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port) = htons(port);
}

}  // namespace

absl::StatusOr<ListenSockets> OpenListenSockets(const std::string& listen) {
  if (const std::optional<std::string> path = SocketPath(listen)) return ListenLocally(listen, *path);
  const std::optional<HostPort> wanted = SplitHostPort(listen);
  if (!wanted) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen: got ", Quoted(listen), ", wanted HOST:PORT, [IPV6]:PORT or unix:PATH"));
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(wanted->host.c_str(), nullptr, &hints, &found);
  if (error != 0) return CannotListen(listen, gai_strerror(error));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  ListenSockets result;
  uint16_t port = wanted->port;
  int last_error = EADDRNOTAVAIL;
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    SocketAddress address{};
    if (at->ai_addrlen > sizeof(address)) continue;
    std::memcpy(&address, at->ai_addr, at->ai_addrlen);
    SetPort(port, address);  // of a name, all its addresses get the one that the first has picked
    Descriptor socket;
    const int wrong = ListenAt(address.any, at->ai_addrlen, socket);
    if (wrong == 0) {
      port = static_cast<uint16_t>(PortOf(socket.get()));
      result.sockets.push_back(std::move(socket));
      continue;
    }
    // "localhost" may stand for an address that this machine does not have; one in use is somebody else's.
    if (wrong == EADDRINUSE && wanted->port != 0) return CannotListen(listen, std::strerror(wrong));
    last_error = wrong;
  }
  if (result.sockets.empty()) return CannotListen(listen, std::strerror(last_error));
  result.port = port;
  return result;
}

std::string WithPort(const std::string& listen, int port) {
  if (SocketPath(listen)) return listen;
  const size_t colon = listen.rfind(':');
  return absl::StrCat(listen.substr(0, colon), ":", port);
}

void RemoveStaleSocket(const std::string& listen) {
  const std::optional<std::string> path = SocketPath(listen);
  const std::optional<SocketAddress> address = path ? LocalAddress(*path) : std::nullopt;
  struct stat facts;
  if (!address || lstat(path->c_str(), &facts) != 0 || !S_ISSOCK(facts.st_mode)) return;
  const Descriptor probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return;
  if (connect(probe.get(), &address->any, sizeof(address->local)) != 0 && errno == ECONNREFUSED) {
    unlink(path->c_str());
  }
}

}  // namespace headlight
