// SPDX-License-Identifier: Apache-2.0
//
// What a gRPC target names: addresses, or a name that has some.
#ifndef HEADLIGHT_CLIENT_RPC_TARGET_H_
#define HEADLIGHT_CLIENT_RPC_TARGET_H_

#include <string>
#include <vector>

namespace headlight::client {

// "dns:///host:1" -> "host:1", "ipv4:1.2.3.4:5,6.7.8.9:10" -> "1.2.3.4:5,6.7.8.9:10".
std::string WithoutScheme(const std::string& target);

// "host:1" -> "host", "[::1]:1" -> "::1", "::1" -> "::1".
std::string HostOf(const std::string& address);

// The addresses of "ipv4:" and "ipv6:", each a target of its own; none of any other target.
std::vector<std::string> ListedAddresses(const std::string& target);

// "HOST[:PORT]" of a target that this machine's resolver is to look up: not of an address, of another scheme,
// or of "dns://SERVER/...", which gRPC itself asks; empty then.
std::string NameToLookUp(const std::string& target);

// What `name` is now, as targets in some order that stays; empty if nothing, or nobody to ask. May take as
// long as DNS does. Without a port it is 443, as gRPC has it.
std::vector<std::string> LookUp(const std::string& name);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_TARGET_H_
