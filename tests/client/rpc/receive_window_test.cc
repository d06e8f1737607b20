// SPDX-License-Identifier: Apache-2.0
//
// What the client tells a server of how much it may send, read off the wire.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/testing/loopback.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;

// Takes one connection, acknowledges its settings and reads its frames until it is closed or silent.
class FrameReader {
 public:
  FrameReader() : thread_([this] { Read(); }) {}
  ~FrameReader() {
    if (thread_.joinable()) thread_.join();
  }

  std::string target() const { return listener_.target(); }
  // After the client is done: each SETTINGS_INITIAL_WINDOW_SIZE that it sent.
  const std::vector<uint32_t>& windows() {
    thread_.join();
    return windows_;
  }

 private:
  std::optional<std::vector<uint8_t>> Take(size_t bytes) {
    std::vector<uint8_t> taken(bytes);
    if (bytes > 0 && recv(connection_, taken.data(), bytes, MSG_WAITALL) != static_cast<ssize_t>(bytes))
      return {};
    return taken;
  }

  void Read() {
    constexpr uint8_t kSettings = 4, kAck = 1, kInitialWindowSize = 4;
    connection_ = accept(listener_.fd(), nullptr, nullptr);
    const timeval patience = {.tv_sec = 5, .tv_usec = 0};
    setsockopt(connection_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    const std::vector<uint8_t> hello = {0, 0, 0, kSettings, 0,    0, 0, 0, 0,   // ours, empty,
                                        0, 0, 0, kSettings, kAck, 0, 0, 0, 0};  // and yours are taken
    Take(std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").size());
    bool greeted = false;
    while (const auto header = Take(9)) {
      const auto payload = Take(size_t{(*header)[0]} << 16 | size_t{(*header)[1]} << 8 | (*header)[2]);
      if (!payload) break;
      if ((*header)[3] != kSettings) continue;
      for (size_t at = 0; at + 6 <= payload->size(); at += 6) {
        const uint8_t* const setting = payload->data() + at;
        if (setting[0] != 0 || setting[1] != kInitialWindowSize) continue;
        windows_.push_back(uint32_t{setting[2]} << 24 | uint32_t{setting[3]} << 16 |
                           uint32_t{setting[4]} << 8 | setting[5]);
      }
      if (greeted) continue;
      greeted = true;
      EXPECT_EQ(send(connection_, hello.data(), hello.size(), MSG_NOSIGNAL), 18);
    }
    close(connection_);
  }

  const testing::LoopbackListener listener_;
  int connection_ = -1;
  std::vector<uint32_t> windows_;
  std::thread thread_;  // last, as it uses the others
};

TEST(ReceiveWindowTest, IsWhatTheOptionSays) {
  for (const int wanted : {1 << 20, 3 << 20}) {
    FrameReader server;
    {
      const auto client = Client::Create(
          server.target(),
          {.receive_window_bytes = wanted, .connection = Connection::kOwn, .retry = {.max_attempts = 1}});
      EXPECT_FALSE(client->ListModels(2s).ok());  // nobody answers
    }
    EXPECT_EQ(server.windows(), std::vector<uint32_t>{static_cast<uint32_t>(wanted)});
  }
  EXPECT_EQ(ClientOptions().receive_window_bytes, 1 << 20);
}

TEST(ReceiveWindowTest, ZeroLeavesItToGrpc) {
  FrameReader server;
  {
    const auto client = Client::Create(
        server.target(),
        {.receive_window_bytes = 0, .connection = Connection::kOwn, .retry = {.max_attempts = 1}});
    EXPECT_FALSE(client->ListModels(2s).ok());
  }
  EXPECT_THAT(server.windows(), ::testing::Not(::testing::Contains(uint32_t{1} << 20)));
}

TEST(ReceiveWindowTest, IsBounded) {
  for (const int bytes : {-1, 1, 65'535, (1 << 30) + 1}) {
    const auto client = Client::Create("localhost:1", {.receive_window_bytes = bytes});
    EXPECT_EQ(client.status().message(),
              "receive_window_bytes: got " + std::to_string(bytes) + ", wanted 0 or 65536 to 1073741824");
  }
}

}  // namespace
}  // namespace headlight::client
