// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/socket_bytes.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace headlight {
namespace {

// A connection over loopback, both ends of it in this process.
class SocketBytesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(listen(listener, 1), 0);
    ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
    client_ = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(connect(client_, reinterpret_cast<sockaddr*>(&address), size), 0);
    server_ = accept(listener, nullptr, nullptr);
    ASSERT_GE(server_, 0);
    close(listener);
    ASSERT_EQ(getsockname(client_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    peer_ = "ipv4:127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  void TearDown() override {
    close(client_);
    if (server_ >= 0) close(server_);
  }

  int client_ = -1;
  int server_ = -1;
  std::string peer_;
};

TEST_F(SocketBytesTest, CountsWhatAConnectionHasReceived) {
  SocketBytes sockets;
  EXPECT_EQ(sockets.ReceivedFrom(peer_), 0);
  const std::vector<char> bytes(1000);
  ASSERT_EQ(send(client_, bytes.data(), bytes.size(), 0), 1000);
  std::vector<char> got(1000);
  ASSERT_EQ(recv(server_, got.data(), got.size(), MSG_WAITALL), 1000);
  EXPECT_EQ(sockets.ReceivedFrom(peer_), 1000);
}

TEST_F(SocketBytesTest, KnowsNothingOfAConnectionThatIsClosed) {
  SocketBytes sockets;
  ASSERT_TRUE(sockets.ReceivedFrom(peer_).has_value());
  close(server_);
  server_ = -1;
  EXPECT_FALSE(sockets.ReceivedFrom(peer_).has_value());
}

TEST_F(SocketBytesTest, KnowsNothingOfOthers) {
  SocketBytes sockets;
  EXPECT_FALSE(sockets.ReceivedFrom("unix:").has_value());
  EXPECT_FALSE(sockets.ReceivedFrom("ipv4:192.0.2.1:1").has_value());
}

}  // namespace
}  // namespace headlight
