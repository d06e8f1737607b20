// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/transport.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

// A socket that is bound to `path`, and listens if asked to.
int BoundSocket(const std::string& path, bool listens) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(bind(fd, static_cast<sockaddr*>(static_cast<void*>(&address)), sizeof(address)), 0);
  if (listens) {
    EXPECT_EQ(listen(fd, 1), 0);
  }
  return fd;
}

TEST(TransportTest, APickedPortStandsInPlaceOfTheOneAskedFor) {
  EXPECT_EQ(WithPort("127.0.0.1:0", 8001), "127.0.0.1:8001");
  EXPECT_EQ(WithPort("[::1]:0", 8001), "[::1]:8001");
}

TEST(TransportTest, ASocketsPathHasNoPort) {
  EXPECT_EQ(WithPort("unix:/run/headlight.sock", 1), "unix:/run/headlight.sock");
  EXPECT_EQ(WithPort("unix:///run/headlight.sock", 1), "unix:///run/headlight.sock");
}

TEST(TransportTest, ASocketThatNobodyListensOnAnyMoreIsRemoved) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/stale.sock";
  close(BoundSocket(path, /*listens=*/true));
  ASSERT_TRUE(std::filesystem::exists(path));
  RemoveStaleSocket("unix:" + path);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TransportTest, ASocketInUseStaysAndSoDoesWhatIsNoSocket) {
  const testing::TempFolder folder;
  const std::string live = folder.path() + "/live.sock";
  const int fd = BoundSocket(live, /*listens=*/true);
  RemoveStaleSocket("unix:" + live);
  EXPECT_TRUE(std::filesystem::exists(live));
  close(fd);
  const std::string file = folder.path() + "/file";
  std::ofstream(file) << "text";
  RemoveStaleSocket("unix:" + file);
  EXPECT_TRUE(std::filesystem::exists(file));
  RemoveStaleSocket("127.0.0.1:8001");
}

TEST(TransportTest, ClosingSocketsEndsTheListenerAndWhatItHasAccepted) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/s.sock";
  const int listener = BoundSocket(path, /*listens=*/true);
  const int caller = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(connect(caller, static_cast<sockaddr*>(static_cast<void*>(&address)), sizeof(address)), 0);
  const int accepted = accept(listener, nullptr, nullptr);
  ASSERT_EQ(write(accepted, "bye", 3), 3);
  CloseSockets("unix:" + path, /*port=*/1);
  char text[8] = {};
  EXPECT_EQ(read(caller, text, sizeof(text)), 3);  // what was written is still delivered
  EXPECT_EQ(read(caller, text, sizeof(text)), 0);
  const int late = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_NE(connect(late, static_cast<sockaddr*>(static_cast<void*>(&address)), sizeof(address)), 0);
  for (int fd : {listener, caller, accepted, late}) close(fd);
}

}  // namespace
}  // namespace headlight
