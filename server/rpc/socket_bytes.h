// SPDX-License-Identifier: Apache-2.0
//
// What the system knows of this process's connections.
#ifndef HEADLIGHT_SERVER_RPC_SOCKET_BYTES_H_
#define HEADLIGHT_SERVER_RPC_SOCKET_BYTES_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace headlight {

// Every open descriptor of this process.
std::vector<int> OpenDescriptors();

// How many bytes the TCP connections of this process have received. Not thread-safe.
class SocketBytes {
 public:
  // Of the connection from `peer`, as gRPC names it ("ipv4:127.0.0.1:50123"), since it was made. Nothing: no
  // such connection, or none over TCP. One that has just been made may be missing for some milliseconds.
  std::optional<int64_t> ReceivedFrom(const std::string& peer);

 private:
  void FindSockets();

  std::unordered_map<std::string, int> descriptors_;  // by peer
  std::chrono::steady_clock::time_point found_;       // when they were
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_SOCKET_BYTES_H_
