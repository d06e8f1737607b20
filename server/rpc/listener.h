// SPDX-License-Identifier: Apache-2.0
//
// Accepts connections, in gRPC's place: its own acceptor knows no limit and stops for good when descriptors
// run out (ADR 0019).
#ifndef HEADLIGHT_SERVER_RPC_LISTENER_H_
#define HEADLIGHT_SERVER_RPC_LISTENER_H_

#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "absl/status/status.h"
#include "server/rpc/connection_book.h"
#include "server/rpc/descriptor.h"
#include "server/rpc/listen_sockets.h"

namespace headlight {

// One thread accepts, and hears of connections that have ended.
class Listener {
 public:
  // Serves a connection: takes over `fd`. Called on the listener's thread.
  using Serve = std::function<void(int fd)>;

  // `book` must outlive this.
  Listener(ListenSockets sockets, ConnectionBook& book, Serve serve);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Begins to accept; what has connected since the sockets were opened has waited. UNAVAILABLE: the system
  // gives no thread or descriptor for it.
  absl::Status Start();

  // Nobody connects from here on, and Serve is not called any more. Ends of connections are no longer heard
  // of. May be called more than once.
  void Stop();

 private:
  void Run();
  void AcceptFrom(int socket);
  void AcceptOne(int fd);
  void RefuseOne(int socket);
  void WatchSockets(bool watch);

  ListenSockets sockets_;
  ConnectionBook& book_;
  const Serve serve_;
  Descriptor epoll_;
  Descriptor stop_;     // an eventfd
  Descriptor reserve_;  // closed to accept, and close, when there is no other descriptor
  bool resting_ = false;
  std::thread thread_;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_LISTENER_H_
