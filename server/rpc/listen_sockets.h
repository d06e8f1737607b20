// SPDX-License-Identifier: Apache-2.0
//
// From "--listen" to sockets that listen.
#ifndef HEADLIGHT_SERVER_RPC_LISTEN_SOCKETS_H_
#define HEADLIGHT_SERVER_RPC_LISTEN_SOCKETS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/rpc/descriptor.h"

namespace headlight {

struct ListenSockets {
  std::vector<Descriptor> sockets;  // non-blocking; one for each address that a name stands for
  int port = 0;                     // of all of them, picked if 0 was asked for; 0: a unix socket
  std::string path;                 // of a unix socket, to be removed when nobody listens there any more
};

// Listens on "HOST:PORT" or "unix:PATH", where a socket that nobody listens on any more is replaced. "[::]"
// takes IPv4 as well. UNAVAILABLE: there is somebody already, or no such address on this machine.
// INVALID_ARGUMENT: `listen` is neither.
absl::StatusOr<ListenSockets> OpenListenSockets(const std::string& listen);

// "HOST:PORT" with the port that was picked in place of the one asked for; "unix:PATH" as it is.
std::string WithPort(const std::string& listen, int port);

// Removes the socket of "unix:PATH" if nobody listens on it any more, which keeps others from listening
// there. Nothing for other addresses.
void RemoveStaleSocket(const std::string& listen);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_LISTEN_SOCKETS_H_
