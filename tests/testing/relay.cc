// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace headlight::testing {
namespace {

constexpr int kPollMs = 10;

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

constexpr size_t kKeptBytes = 64 << 10;

bool IsReadable(int socket) {
  pollfd waits = {socket, POLLIN, 0};
  return poll(&waits, 1, kPollMs) > 0;
}

}  // namespace

Relay::Relay(int port) : server_port_(port), acceptor_([this] { Accept(); }) {}

Relay::~Relay() {
  stopping_ = true;
  acceptor_.join();
  Cut();
}

void Relay::Accept() {
  while (!stopping_) {
    if (!IsReadable(listener_.fd())) continue;
    const int client = accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC);
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = Loopback(server_port_);
    connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    const std::lock_guard lock(mutex_);
    sockets_.insert(sockets_.end(), {client, server});
    threads_.emplace_back([=, this] { HandOn(client, server, to_server_left_, /*keep=*/false); });
    threads_.emplace_back([=, this] { HandOn(server, client, to_client_left_, /*keep=*/true); });
  }
}

void Relay::HandOn(int from, int to, std::atomic<int64_t>& left, bool keep) {
  std::vector<char> bytes(16384);
  while (true) {
    const int64_t most = std::min<int64_t>(left, static_cast<int64_t>(bytes.size()));
    if (most <= 0) {  // until it is cut
      pollfd waits = {from, 0, 0};
      if (poll(&waits, 1, kPollMs) > 0) return;
      continue;
    }
    const ssize_t received = recv(from, bytes.data(), static_cast<size_t>(most), 0);
    if (received <= 0) break;
    if (keep) {
      const std::lock_guard lock(mutex_);
      const size_t room = kKeptBytes - sent_by_server_.size();
      sent_by_server_.append(bytes.data(), std::min(room, static_cast<size_t>(received)));
    }
    if (left.fetch_sub(received) <= 0) continue;  // it was stopped meanwhile
    for (ssize_t sent = 0; sent < received;) {
      const ssize_t step = send(to, bytes.data() + sent, static_cast<size_t>(received - sent), MSG_NOSIGNAL);
      if (step <= 0) return;
      sent += step;
    }
  }
  shutdown(to, SHUT_WR);
}

std::string Relay::SentByServer() {
  const std::lock_guard lock(mutex_);
  return sent_by_server_;
}

void Relay::Cut() {
  std::vector<int> sockets;
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    sockets = std::exchange(sockets_, {});
    threads = std::exchange(threads_, {});
  }
  for (const int one : sockets) {
    const linger at_once = {1, 0};  // close() sends a reset
    setsockopt(one, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    shutdown(one, SHUT_RD);  // wakes the threads
  }
  for (std::thread& thread : threads) thread.join();
  for (const int one : sockets) close(one);
}

}  // namespace headlight::testing
