// SPDX-License-Identifier: Apache-2.0
//
// An address of the loopback interface where connections are taken, by the kernel, and nothing is ever said: a server that
// was stopped before it could.
#ifndef HEADLIGHT_TESTS_CLIENT_SILENT_LISTENER_H_
#define HEADLIGHT_TESTS_CLIENT_SILENT_LISTENER_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace headlight::testing {

class SilentListener {
 public:
  SilentListener() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = static_cast<sockaddr*>(static_cast<void*>(&address));
    EXPECT_EQ(bind(socket_, any, size), 0);
    EXPECT_EQ(getsockname(socket_, any, &size), 0);
    EXPECT_EQ(listen(socket_, SOMAXCONN), 0);
    port_ = ntohs(address.sin_port);
  }
  ~SilentListener() { close(socket_); }
  SilentListener(const SilentListener&) = delete;
  SilentListener& operator=(const SilentListener&) = delete;

  std::string target() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  const int socket_;
  int port_ = 0;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_SILENT_LISTENER_H_
