// SPDX-License-Identifier: Apache-2.0
//
// The listener and its book, with the test in gRPC's place: it gets the connections and closes them as gRPC
// does.
#include "server/rpc/listener.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/rpc/descriptor_limit.h"
#include "server/rpc/socket_address.h"
#include "server/schedule/clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using testing::IsOk;

constexpr std::chrono::seconds kPatience{20};

bool Eventually(const std::function<bool()>& happens) {
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!happens() && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return happens();
}

// True once the other side has closed: nothing more comes.
bool IsClosed(const Descriptor& caller) {
  char byte = 0;
  return Eventually([&] {
    const ssize_t got = recv(caller.get(), &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
  });
}

class ListenerTest : public ::testing::Test {
 protected:
  void Listen(const ConnectionLimits& limits) {
    auto sockets = OpenListenSockets("127.0.0.1:0");
    ASSERT_THAT(sockets, IsOk());
    port_ = sockets->port;
    book_ = std::make_unique<ConnectionBook>(limits, clock_);
    listener_ = std::make_unique<Listener>(*std::move(sockets), *book_, [this](int fd) {
      const std::lock_guard lock(mutex_);
      served_.emplace_back(fd);
    });
    ASSERT_THAT(listener_->Start(), IsOk());
  }

  // A caller's end of a connection, from 127.0.0.`from`.
  Descriptor Connect(int from = 1) const {
    Descriptor fd(socket(AF_INET, SOCK_STREAM, 0));
    SocketAddress address{};
    address.v4.sin_family = AF_INET;
    address.v4.sin_addr.s_addr = htonl(0x7f000000U + static_cast<uint32_t>(from));
    EXPECT_EQ(bind(fd.get(), &address.any, sizeof(address.v4)), 0);
    address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.v4.sin_port = htons(static_cast<uint16_t>(port_));
    EXPECT_EQ(connect(fd.get(), &address.any, sizeof(address.v4)), 0);
    return fd;
  }

  std::string NameOf(const Descriptor& caller) const {
    return "ipv4:127.0.0.1:" + std::to_string(PortOf(caller.get()));
  }

  size_t num_served() {
    const std::lock_guard lock(mutex_);
    return served_.size();
  }
  bool OpenAre(int64_t count) {
    return Eventually([&] { return book_->counts().open == count; });
  }
  // As gRPC does it.
  void CloseServed(size_t at) {
    const std::lock_guard lock(mutex_);
    shutdown(served_[at].get(), SHUT_RDWR);
    served_[at].Reset();
  }

  SteadyClock clock_;
  int port_ = 0;
  std::mutex mutex_;
  std::vector<Descriptor> served_;  // guarded by mutex_
  std::unique_ptr<ConnectionBook> book_;
  std::unique_ptr<Listener> listener_;
};

TEST_F(ListenerTest, TheBookForgetsWhomTheServerCloses) {
  Listen({10, 10});
  const Descriptor caller = Connect();
  ASSERT_TRUE(OpenAre(1));
  EXPECT_NE(book_->ConductOf(NameOf(caller)), nullptr);
  ASSERT_TRUE(Eventually([&] { return num_served() == 1; }));
  CloseServed(0);
  EXPECT_TRUE(OpenAre(0));
  EXPECT_EQ(book_->ConductOf(NameOf(caller)), nullptr);
  EXPECT_TRUE(IsClosed(caller));  // no descriptor of the book's keeps it
}

TEST_F(ListenerTest, AnEndIsToldOnceWhileGrpcKeepsItsDescriptor) {
  Listen({10, 10});
  const Descriptor caller = Connect();
  ASSERT_TRUE(OpenAre(1));
  ASSERT_TRUE(Eventually([&] { return num_served() == 1; }));
  {
    const std::lock_guard lock(mutex_);
    shutdown(served_[0].get(), SHUT_RDWR);  // a call of the connection goes on, and so the descriptor stays
  }
  ASSERT_TRUE(OpenAre(0));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 10);  // of this process: the listener sleeps
}

TEST_F(ListenerTest, TheBookForgetsWhoResets) {
  Listen({10, 10});
  Descriptor caller = Connect();
  ASSERT_TRUE(OpenAre(1));
  const linger at_once = {1, 0};
  setsockopt(caller.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  caller.Reset();
  EXPECT_TRUE(OpenAre(0));
}

TEST_F(ListenerTest, AConnectionBeyondALimitIsClosedAndCounted) {
  Listen({5, 2});
  std::vector<Descriptor> callers;
  for (int from : {1, 1, 2, 2, 3}) callers.push_back(Connect(from));
  ASSERT_TRUE(OpenAre(5));
  EXPECT_TRUE(IsClosed(Connect(4)));
  EXPECT_EQ(book_->counts().refused_in_all, 1);
  ASSERT_TRUE(Eventually([&] { return num_served() == 5; }));
  CloseServed(4);
  ASSERT_TRUE(OpenAre(4));
  EXPECT_TRUE(IsClosed(Connect(1)));
  EXPECT_EQ(book_->counts().refused_per_address, 1);
  callers.push_back(Connect(4));
  EXPECT_TRUE(OpenAre(5));
  EXPECT_EQ(book_->counts().accepted, 6);
}

TEST_F(ListenerTest, TheBookTellsWhatAConnectionHasReceived) {
  Listen({10, 10});
  const Descriptor caller = Connect();
  ASSERT_TRUE(OpenAre(1));
  EXPECT_EQ(book_->ReceivedFrom(NameOf(caller)), 0);
  const std::vector<char> bytes(1000);
  ASSERT_EQ(send(caller.get(), bytes.data(), bytes.size(), 0), 1000);
  EXPECT_TRUE(Eventually([&] { return book_->ReceivedFrom(NameOf(caller)) == 1000; }));
  EXPECT_FALSE(book_->ReceivedFrom("ipv4:192.0.2.1:1").has_value());
  EXPECT_FALSE(book_->ReceivedFrom("unix:").has_value());
}

TEST_F(ListenerTest, WhoThrowsCallsAwayLosesTheConnectionAndWhatItHasSent) {
  Listen({10, 10});
  const Descriptor caller = Connect();
  ASSERT_TRUE(Eventually([&] { return num_served() == 1; }));
  ASSERT_EQ(send(caller.get(), "more", 4, 0), 4);
  ASSERT_TRUE(Eventually([&] { return book_->ReceivedFrom(NameOf(caller)) == 4; }));
  const auto conduct = book_->ConductOf(NameOf(caller));
  for (int i = 0; i <= static_cast<int>(ConnectionConduct::kBurst); ++i) {
    book_->CallEnded(conduct.get(), CallEnding::kCancelledUnread);
  }
  EXPECT_EQ(book_->counts().ended_for_abuse, 1);
  EXPECT_TRUE(OpenAre(0));
  EXPECT_TRUE(IsClosed(caller));
  char text[8];
  const std::lock_guard lock(mutex_);
  EXPECT_LE(read(served_[0].get(), text, sizeof(text)), 0);
}

TEST_F(ListenerTest, NobodyConnectsFromTheAddressOfAFlood) {
  Listen({10, 10, /*abuse_pause_s=*/3600});
  const Descriptor other = Connect(3);
  const Descriptor caller = Connect(2);
  const Descriptor neighbour = Connect(2);
  ASSERT_TRUE(OpenAre(3));
  const std::string name = "ipv4:127.0.0.2:" + std::to_string(PortOf(caller.get()));
  book_->EndForAbuse(*book_->ConductOf(name), "test");
  EXPECT_TRUE(OpenAre(2));  // who is connected stays
  EXPECT_TRUE(IsClosed(Connect(2)));
  EXPECT_EQ(book_->counts().refused_in_pause, 1);
  const Descriptor another = Connect(3);
  EXPECT_TRUE(OpenAre(3));
}

TEST_F(ListenerTest, ThisHostIsNeverPaused) {
  Listen({10, 10, /*abuse_pause_s=*/3600});
  const Descriptor caller = Connect();
  ASSERT_TRUE(OpenAre(1));
  book_->EndForAbuse(*book_->ConductOf(NameOf(caller)), "test");
  ASSERT_TRUE(OpenAre(0));
  const Descriptor again = Connect();
  EXPECT_TRUE(OpenAre(1));
}

TEST_F(ListenerTest, WithoutAPauseTheNextConnectionIsTaken) {
  Listen({10, 10, /*abuse_pause_s=*/0});
  const Descriptor caller = Connect();
  ASSERT_TRUE(OpenAre(1));
  book_->EndForAbuse(*book_->ConductOf(NameOf(caller)), "test");
  ASSERT_TRUE(OpenAre(0));
  const Descriptor again = Connect();
  EXPECT_TRUE(OpenAre(1));
}

TEST_F(ListenerTest, TheBookTellsOnceOfWhatWasReceived) {
  Listen({10, 10});
  const Descriptor caller = Connect();
  const Descriptor silent = Connect();
  ASSERT_TRUE(Eventually([&] { return num_served() == 2; }));
  ASSERT_EQ(send(caller.get(), "four", 4, 0), 4);
  std::vector<ConnectionBook::Received> received = book_->AwaitReceived();
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0].peer, NameOf(caller));
  EXPECT_EQ(received[0].bytes, 0);  // nobody has read them
  {
    const std::lock_guard lock(mutex_);
    char text[8];
    for (const Descriptor& served : served_) (void)recv(served.get(), text, sizeof(text), MSG_DONTWAIT);
  }
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(send(caller.get(), "more", 4, 0), 4);
  });
  received = book_->AwaitReceived();  // nothing of the first four
  later.join();
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0].bytes, 4);
  book_->StopAwaiting();
  EXPECT_TRUE(Eventually([&] { return book_->AwaitReceived().empty(); }));
}

TEST_F(ListenerTest, ShutDownAllDeliversWhatWasWritten) {
  Listen({10, 10});
  const Descriptor caller = Connect();
  ASSERT_TRUE(Eventually([&] { return num_served() == 1; }));
  {
    const std::lock_guard lock(mutex_);
    ASSERT_EQ(write(served_[0].get(), "bye", 3), 3);
  }
  listener_->Stop();
  book_->ShutDownAll();
  char text[8] = {};
  EXPECT_EQ(recv(caller.get(), text, sizeof(text), MSG_WAITALL), 3);
  const Descriptor late(socket(AF_INET, SOCK_STREAM, 0));
  SocketAddress address{};
  address.v4.sin_family = AF_INET;
  address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.v4.sin_port = htons(static_cast<uint16_t>(port_));
  EXPECT_NE(connect(late.get(), &address.any, sizeof(address.v4)), 0);
}

TEST_F(ListenerTest, WithoutDescriptorsItClosesAndComesBack) {
  Listen({1000, 1000});
  const Descriptor first = Connect();
  ASSERT_TRUE(OpenAre(1));
  const Descriptor waiting(socket(AF_INET, SOCK_STREAM, 0));
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {0, limit.rlim_max};  // what is open stays
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  SocketAddress address{};
  address.v4.sin_family = AF_INET;
  address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.v4.sin_port = htons(static_cast<uint16_t>(port_));
  ASSERT_EQ(connect(waiting.get(), &address.any, sizeof(address.v4)), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(OpenAre(2));  // it had waited in the backlog
}

TEST_F(ListenerTest, AUnixSocketGoesWithTheListener) {
  const testing::TempFolder folder;
  const std::string path = folder.File("s.sock");
  auto sockets = OpenListenSockets("unix:" + path);
  ASSERT_THAT(sockets, IsOk());
  ConnectionBook book({10, 10}, clock_);
  {
    Listener listener(*std::move(sockets), book, [](int fd) { close(fd); });
    ASSERT_THAT(listener.Start(), IsOk());
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(DescriptorLimitTest, TwoDescriptorsForEachConnectionAndAReserve) {
  const auto limits = FitConnections({0, 0}, 1024);
  ASSERT_THAT(limits, IsOk());
  EXPECT_EQ(limits->in_all, (1024 - 128) / 2);
  EXPECT_EQ(limits->per_address, limits->in_all / 4);
}

TEST(DescriptorLimitTest, ManyDescriptorsDoNotMeanManyConnections) {
  EXPECT_EQ(FitConnections({0, 0}, 1'000'000)->in_all, 10'000);
  EXPECT_EQ(FitConnections({20'000, 0}, 1'000'000)->in_all, 20'000);
}

TEST(DescriptorLimitTest, WhatDoesNotFitIsRefused) {
  const auto limits = FitConnections({1000, 0}, 1024);
  EXPECT_EQ(limits.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace headlight
