// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/listen_sockets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "server/rpc/socket_address.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;

// A socket that is bound to `path`, and listens if asked to.
Descriptor BoundSocket(const std::string& path, bool listens) {
  Descriptor fd(socket(AF_UNIX, SOCK_STREAM, 0));
  SocketAddress address{};
  address.local.sun_family = AF_UNIX;
  std::memcpy(address.local.sun_path, path.data(), path.size());
  EXPECT_EQ(bind(fd.get(), &address.any, sizeof(address.local)), 0);
  if (listens) {
    EXPECT_EQ(listen(fd.get(), 1), 0);
  }
  return fd;
}

bool CanConnectV4(int port) {
  const Descriptor fd(socket(AF_INET, SOCK_STREAM, 0));
  SocketAddress address{};
  address.v4.sin_family = AF_INET;
  address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.v4.sin_port = htons(static_cast<uint16_t>(port));
  return connect(fd.get(), &address.any, sizeof(address.v4)) == 0;
}

TEST(ListenSocketsTest, PicksAPortAndListensThere) {
  const auto sockets = OpenListenSockets("127.0.0.1:0");
  ASSERT_THAT(sockets, IsOk());
  EXPECT_GT(sockets->port, 0);
  EXPECT_EQ(sockets->sockets.size(), 1u);
  EXPECT_TRUE(CanConnectV4(sockets->port));
}

TEST(ListenSocketsTest, APortThatIsTakenIsAnError) {
  const auto first = OpenListenSockets("127.0.0.1:0");
  ASSERT_THAT(first, IsOk());
  const auto second = OpenListenSockets("127.0.0.1:" + std::to_string(first->port));
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("--listen: cannot listen on"));
}

TEST(ListenSocketsTest, AnAddressOfAnotherMachineIsAnError) {
  EXPECT_EQ(OpenListenSockets("192.0.2.1:0").status().code(), absl::StatusCode::kUnavailable);
}

TEST(ListenSocketsTest, TheWildcardOfIpv6TakesIpv4AsWell) {
  const auto sockets = OpenListenSockets("[::]:0");
  if (!sockets.ok()) GTEST_SKIP() << "no IPv6 here: " << sockets.status();
  EXPECT_TRUE(CanConnectV4(sockets->port));
}

TEST(ListenSocketsTest, AllAddressesOfANameShareOnePort) {
  const auto sockets = OpenListenSockets("localhost:0");
  ASSERT_THAT(sockets, IsOk());
  for (const Descriptor& socket : sockets->sockets) EXPECT_EQ(PortOf(socket.get()), sockets->port);
}

TEST(ListenSocketsTest, WhatIsNoAddressIsRefused) {
  for (const char* wrong : {"", "localhost", "localhost:", ":8001", "::1:8001", "[::1]", "localhost:70000",
                            "localhost:x", "localhost:-1", "unix:"}) {
    EXPECT_EQ(OpenListenSockets(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
  }
  EXPECT_EQ(OpenListenSockets("unix:/" + std::string(200, 'x')).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ListenSocketsTest, AUnixSocketReplacesOneThatNobodyListensOn) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/s.sock";
  BoundSocket(path, /*listens=*/true);
  EXPECT_THAT(OpenListenSockets("unix:" + path), IsOk());
}

TEST(ListenSocketsTest, AUnixSocketInUseIsAnError) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/s.sock";
  const Descriptor in_use = BoundSocket(path, /*listens=*/true);
  EXPECT_EQ(OpenListenSockets("unix:" + path).status().code(), absl::StatusCode::kUnavailable);
}

TEST(ListenSocketsTest, APickedPortStandsInPlaceOfTheOneAskedFor) {
  EXPECT_EQ(WithPort("127.0.0.1:0", 8001), "127.0.0.1:8001");
  EXPECT_EQ(WithPort("[::1]:0", 8001), "[::1]:8001");
}

TEST(ListenSocketsTest, ASocketsPathHasNoPort) {
  EXPECT_EQ(WithPort("unix:/run/headlight.sock", 1), "unix:/run/headlight.sock");
  EXPECT_EQ(WithPort("unix:///run/headlight.sock", 1), "unix:///run/headlight.sock");
}

TEST(ListenSocketsTest, ASocketInUseStaysAndSoDoesWhatIsNoSocket) {
  const testing::TempFolder folder;
  const std::string live = folder.path() + "/live.sock";
  const Descriptor in_use = BoundSocket(live, /*listens=*/true);
  RemoveStaleSocket("unix:" + live);
  EXPECT_TRUE(std::filesystem::exists(live));
  const std::string file = folder.path() + "/file";
  std::ofstream(file) << "text";
  RemoveStaleSocket("unix:" + file);
  EXPECT_TRUE(std::filesystem::exists(file));
  RemoveStaleSocket("127.0.0.1:8001");
}

}  // namespace
}  // namespace headlight
