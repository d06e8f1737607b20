// SPDX-License-Identifier: Apache-2.0
//
// Ports of the loopback interface.
#ifndef HEADLIGHT_TESTS_TESTING_LOOPBACK_H_
#define HEADLIGHT_TESTS_TESTING_LOOPBACK_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace headlight::testing {

// Listens on a port of its own. Until somebody accepts connections of fd() the kernel takes them and nothing is
// ever said, as by a server that was stopped before it could. Ends the process if there is no port.
class LoopbackListener {
 public:
  LoopbackListener() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = static_cast<sockaddr*>(static_cast<void*>(&address));
    if (bind(fd_, any, size) != 0 || listen(fd_, SOMAXCONN) != 0 || getsockname(fd_, any, &size) != 0) {
      std::perror("a port of the loopback interface");
      std::abort();
    }
    port_ = ntohs(address.sin_port);
  }
  ~LoopbackListener() { close(fd_); }
  LoopbackListener(const LoopbackListener&) = delete;
  LoopbackListener& operator=(const LoopbackListener&) = delete;

  int fd() const { return fd_; }
  int port() const { return port_; }
  std::string target() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  const int fd_;
  int port_ = 0;
};

// One that nobody listens on.
inline int FreePort() { return LoopbackListener().port(); }

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_TESTING_LOOPBACK_H_
