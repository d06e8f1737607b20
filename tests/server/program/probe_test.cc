// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/program/program_commands.h"
#include "tests/testing/loopback.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Answers one connection with `answer`, and keeps what was asked.
class OneAnswer {
 public:
  explicit OneAnswer(std::string answer) : answer_(std::move(answer)), thread_([this] { Answer(); }) {}
  ~OneAnswer() {
    if (thread_.joinable()) thread_.join();
  }

  std::string port() const { return std::to_string(listener_.port()); }
  std::string Asked() {
    thread_.join();
    return asked_;
  }

 private:
  void Answer() {
    const int fd = accept(listener_.fd(), nullptr, nullptr);
    std::array<char, 1024> buffer;
    while (asked_.find("\r\n\r\n") == std::string::npos) {
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      asked_.append(buffer.data(), static_cast<size_t>(got));
    }
    EXPECT_EQ(send(fd, answer_.data(), answer_.size(), MSG_NOSIGNAL), static_cast<ssize_t>(answer_.size()));
    close(fd);
  }

  const std::string answer_;
  const testing::LoopbackListener listener_;
  std::string asked_;
  std::thread thread_;  // last, as it uses the others
};

class ProbeTest : public ::testing::Test {
 protected:
  int Probe(std::vector<std::string> flags) {
    std::vector<const char*> argv = {"probe"};
    for (const std::string& flag : flags) argv.push_back(flag.c_str());
    return RunProbe(static_cast<int>(argv.size()), argv.data(), out_, err_);
  }

  std::ostringstream out_, err_;
};

TEST_F(ProbeTest, AServerThatIsReadyIsGood) {
  OneAnswer server("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nready\n");
  EXPECT_EQ(Probe({"--admin-listen", "0.0.0.0:" + server.port()}), 0) << err_.str();
  EXPECT_EQ(out_.str(), "ready\n");
  EXPECT_THAT(server.Asked(), StartsWith("GET /readyz HTTP/1.0\r\nHost: 127.0.0.1\r\n"));
}

TEST_F(ProbeTest, AServerThatLoadsIsNotAndSaysWhy) {
  OneAnswer server("HTTP/1.1 503 Service Unavailable\r\n\r\nloading encoder\n");
  EXPECT_EQ(Probe({"--admin-listen", "127.0.0.1:" + server.port(), "--path", "/livez"}), 1);
  EXPECT_EQ(out_.str(), "loading encoder\n");
  EXPECT_THAT(server.Asked(), StartsWith("GET /livez "));
}

TEST_F(ProbeTest, WhateverElseAnswersIsNotGood) {
  for (const char* answer : {"SSH-2.0 200 \r\n", "HTTP/1.", "", "HTTP/1.1 2000 \r\n\r\n"}) {
    OneAnswer server(answer);
    EXPECT_EQ(Probe({"--admin-listen", "127.0.0.1:" + server.port()}), 1) << answer;
  }
}

TEST_F(ProbeTest, TheAddressIsThatOfTheServersEnvironment) {
  OneAnswer server("HTTP/1.1 200 OK\r\n\r\n");
  setenv("HEADLIGHT_ADMIN_LISTEN", (":" + server.port()).c_str(), 1);
  EXPECT_EQ(Probe({}), 0) << err_.str();
  unsetenv("HEADLIGHT_ADMIN_LISTEN");
}

TEST_F(ProbeTest, NobodyThereIsToldOf) {
  std::string port;
  {
    OneAnswer gone("HTTP/1.1 200 OK\r\n\r\n");
    port = gone.port();
    EXPECT_EQ(Probe({"--admin-listen", "127.0.0.1:" + port}), 0);
  }
  EXPECT_EQ(Probe({"--admin-listen", "127.0.0.1:" + port}), 1);
  EXPECT_THAT(err_.str(), HasSubstr("127.0.0.1:" + port + ": cannot connect"));
}

TEST_F(ProbeTest, WrongUsageIsToldOf) {
  EXPECT_EQ(Probe({"--admin-listen", "8002"}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("--admin-listen: got \"8002\", wanted HOST:PORT"));
  EXPECT_EQ(Probe({"--nonsense"}), 2);
}

}  // namespace
}  // namespace headlight
