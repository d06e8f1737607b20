// SPDX-License-Identifier: Apache-2.0
//
// Proxies that the environment names. gRPC connects through them by itself (grpc_proxy, https_proxy,
// http_proxy, in this order, but for the hosts of no_grpc_proxy or no_proxy), also to this very machine, and
// says nothing of it when that fails.
#ifndef HEADLIGHT_CLIENT_RPC_PROXY_H_
#define HEADLIGHT_CLIENT_RPC_PROXY_H_

#include <grpcpp/support/client_interceptor.h>

#include <memory>
#include <string>

namespace headlight::client {

// Whether a gRPC target names addresses of this machine only, which no proxy can reach: unix sockets,
// localhost, 127.0.0.0/8 and ::1.
bool IsLocalTarget(const std::string& target);

// What gRPC connects through to reach `target`, as "http://HOST:PORT" without user and password; empty if it
// connects directly.
std::string ProxyFor(const std::string& target);

// Adds to the message of each call that ends with UNAVAILABLE that it went through `proxy`.
std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> MakeProxyNote(
    const std::string& proxy);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_PROXY_H_
