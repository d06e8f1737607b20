// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/socket_bytes.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace headlight {
namespace {

// Looking through all descriptors takes about a microsecond each.
constexpr std::chrono::milliseconds kLeastBetweenSearches{20};

union PeerAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

// Whom the socket `fd` is connected to, "ipv4:ADDRESS:PORT" or "ipv6:[ADDRESS]:PORT"; empty for what is no
// such connection.
std::string PeerOf(int fd) {
  PeerAddress peer;
  std::memset(&peer, 0, sizeof(peer));
  socklen_t size = sizeof(peer);
  std::array<char, INET6_ADDRSTRLEN> text;
  if (getpeername(fd, &peer.any, &size) != 0) return "";
  if (peer.any.sa_family == AF_INET) {
    inet_ntop(AF_INET, &peer.v4.sin_addr, text.data(), text.size());
    return absl::StrCat("ipv4:", text.data(), ":", ntohs(peer.v4.sin_port));
  }
  if (peer.any.sa_family != AF_INET6) return "";
  const int port = ntohs(peer.v6.sin6_port);
  if (IN6_IS_ADDR_V4MAPPED(&peer.v6.sin6_addr)) {
    inet_ntop(AF_INET, &peer.v6.sin6_addr.s6_addr[12], text.data(), text.size());
    return absl::StrCat("ipv4:", text.data(), ":", port);
  }
  inet_ntop(AF_INET6, &peer.v6.sin6_addr, text.data(), text.size());
  return absl::StrCat("ipv6:[", text.data(), "]:", port);
}

// gRPC escapes brackets, in newer releases.
std::string Unescaped(const std::string& peer) {
  return absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}});
}

std::optional<int64_t> ReceivedBytes(int fd) {
  tcp_info info;
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  if (size < offsetof(tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received)) return std::nullopt;
  return static_cast<int64_t>(info.tcpi_bytes_received);
}

}  // namespace

std::vector<int> OpenDescriptors() {
  std::vector<int> descriptors;
  DIR* const folder = opendir("/proc/self/fd");
  if (folder == nullptr) return descriptors;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') descriptors.push_back(std::atoi(entry->d_name));
  }
  closedir(folder);
  return descriptors;
}

std::optional<int64_t> SocketBytes::ReceivedFrom(const std::string& peer) {
  const std::string name = Unescaped(peer);
  auto found = descriptors_.find(name);
  // A descriptor may have been closed since, and be another connection's now.
  if (found == descriptors_.end() || PeerOf(found->second) != name) {
    const auto now = std::chrono::steady_clock::now();
    if (now - found_ < kLeastBetweenSearches) return std::nullopt;
    found_ = now;
    FindSockets();
    found = descriptors_.find(name);
    if (found == descriptors_.end()) return std::nullopt;
  }
  return ReceivedBytes(found->second);
}

void SocketBytes::FindSockets() {
  descriptors_.clear();
  for (const int fd : OpenDescriptors()) {
    const std::string peer = PeerOf(fd);
    if (!peer.empty()) descriptors_[peer] = fd;
  }
}

}  // namespace headlight
