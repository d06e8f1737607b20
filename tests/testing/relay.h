// SPDX-License-Identifier: Apache-2.0
//
// A connection that a test can break: what a client sends goes through it, until it is told to stop.
#ifndef HEADLIGHT_TESTS_TESTING_RELAY_H_
#define HEADLIGHT_TESTS_TESTING_RELAY_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/testing/loopback.h"

namespace headlight::testing {

// Listens on a port of its own on the loopback interface and hands everything on to `port` and back. Give
// clients its port in place of the server's.
class Relay {
 public:
  explicit Relay(int port);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  int port() const { return listener_.port(); }

  // Hands on so many more bytes to the server, in all, and then no more; what follows stays with the client.
  void LimitToServer(int64_t bytes) { to_server_left_ = bytes; }
  // Hands on nothing more of what the server sends, as if the client did not read it.
  void StopToClient() { to_client_left_ = 0; }

  // The first 64 KiB that the server has sent on all connections.
  std::string SentByServer();

  // Resets all connections, as the system does for a process that is killed.
  void Cut();

 private:
  void Accept();
  void HandOn(int from, int to, std::atomic<int64_t>& left, bool keep);

  const int server_port_;
  const LoopbackListener listener_;
  std::atomic<int64_t> to_server_left_{std::numeric_limits<int64_t>::max()};
  std::atomic<int64_t> to_client_left_{std::numeric_limits<int64_t>::max()};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<int> sockets_;          // guarded by mutex_
  std::vector<std::thread> threads_;  // guarded by mutex_
  std::string sent_by_server_;        // guarded by mutex_
  std::thread acceptor_;              // last, as it uses the others
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_TESTING_RELAY_H_
