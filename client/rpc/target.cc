// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/target.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace headlight::client {
namespace {

constexpr char kDefaultPort[] = "443";

bool IsNumeric(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 || inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

// Behind the last colon, unless that is one of an IPv6 address.
std::string PortOf(const std::string& name) {
  const std::string host = HostOf(name);
  const size_t colon = name.rfind(':');
  return colon == std::string::npos || name == host || name.back() == ']' ? kDefaultPort
                                                                          : name.substr(colon + 1);
}

// "ipv4:1.2.3.4:80", "ipv6:[::1]:80".
std::string TargetOf(const addrinfo& found) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(found.ai_addr, found.ai_addrlen, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "";
  }
  return found.ai_family == AF_INET6 ? absl::StrCat("ipv6:[", host, "]:", port)
                                     : absl::StrCat("ipv4:", host, ":", port);
}

}  // namespace

std::string WithoutScheme(const std::string& target) {
  for (const char* scheme : {"dns:", "ipv4:", "ipv6:"}) {
    if (!absl::StartsWith(target, scheme)) continue;
    const std::string rest = target.substr(std::string(scheme).size());
    if (!absl::StartsWith(rest, "//")) return rest;
    const size_t path = rest.find('/', 2);  // behind the authority, which names a DNS server
    return path == std::string::npos ? "" : rest.substr(path + 1);
  }
  return target;
}

std::string HostOf(const std::string& address) {
  if (absl::StartsWith(address, "[")) return address.substr(1, address.find(']') - 1);
  const size_t colon = address.find(':');
  return colon == std::string::npos || address.find(':', colon + 1) != std::string::npos
             ? address
             : address.substr(0, colon);
}

std::vector<std::string> ListedAddresses(const std::string& target) {
  std::vector<std::string> addresses;
  for (const char* scheme : {"ipv4:", "ipv6:"}) {
    if (!absl::StartsWith(target, scheme)) continue;
    for (const std::string& address :
         std::vector<std::string>(absl::StrSplit(WithoutScheme(target), ',', absl::SkipEmpty()))) {
      addresses.push_back(scheme + address);
    }
  }
  return addresses;
}

std::string NameToLookUp(const std::string& target) {
  if (!ListedAddresses(target).empty()) return "";
  const bool asks_a_server = absl::StartsWith(target, "dns://") && !absl::StartsWith(target, "dns:///");
  const std::string name = WithoutScheme(target);
  const std::string host = HostOf(name);
  // Two colons or a slash: an IPv6 address without brackets, or another scheme's.
  const bool is_name = host.find(':') == std::string::npos && name.find('/') == std::string::npos &&
                       !absl::StartsWith(name, "unix:") && !absl::StartsWith(name, "unix-abstract:");
  return asks_a_server || host.empty() || !is_name || IsNumeric(host) ? "" : name;
}

std::vector<std::string> LookUp(const std::string& name) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(HostOf(name).c_str(), PortOf(name).c_str(), &hints, &found) != 0) return {};
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  std::set<std::string> targets;  // without repetition, and in an order that stays
  for (; found != nullptr; found = found->ai_next) targets.insert(TargetOf(*found));
  targets.erase("");
  return {targets.begin(), targets.end()};
}

}  // namespace headlight::client
