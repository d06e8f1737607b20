// SPDX-License-Identifier: Apache-2.0
//
// Which of several servers gets a call.
#include "client/rpc/server_pool.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/fake_server.h"
#include "tests/testing/loopback.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::testing::ElementsAre;
using ::testing::Pair;

const std::string kNobody = "ipv4:127.0.0.1:9";  // where connections are refused

Channels OpenChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return {grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)};
}

class ServerPoolTest : public ::testing::Test {
 protected:
  // A pool of `count` servers, all of them connected, named "ipv4:..." in the order of servers_.
  void Connect(int count) {
    std::vector<std::string> addresses;
    for (int i = 0; i < count; ++i) {
      servers_.push_back(std::make_unique<FakeServer>());
      addresses.push_back(Address(i));
    }
    pool_.SetAddresses(addresses, OpenChannel);
    for (int i = 0; i < count; ++i) WaitUntilConnected(i);
  }

  std::string Address(int i) const { return "ipv4:" + servers_[static_cast<size_t>(i)]->target(); }

  void WaitUntilConnected(int i) {
    const auto give_up_at = std::chrono::steady_clock::now() + 20s;
    while (std::chrono::steady_clock::now() < give_up_at) {
      const auto choice = pool_.Pick({});
      if (choice.server->address() == Address(i) && choice.channel->GetState(false) == GRPC_CHANNEL_READY)
        return;
      std::this_thread::sleep_for(1ms);
    }
    ADD_FAILURE() << "no connection to " << Address(i);
  }

  // How often each was chosen of `count` times.
  std::map<std::string, int> Picks(int count, const ServerPool::Servers& tried = {}) {
    std::map<std::string, int> picks;
    for (int i = 0; i < count; ++i) ++picks[pool_.Pick(tried).server->address()];
    return picks;
  }

  std::shared_ptr<Server> Find(int i) {
    for (int j = 0; j < 100; ++j) {
      const auto choice = pool_.Pick({});
      if (choice.server->address() == Address(i)) return choice.server;
    }
    ADD_FAILURE() << Address(i) << " is never chosen";
    return nullptr;
  }

  std::vector<std::unique_ptr<FakeServer>> servers_;
  ServerPool pool_{kNobody, OpenChannel(kNobody)};
};

TEST_F(ServerPoolTest, EachInTurn) {
  Connect(3);
  EXPECT_THAT(Picks(30), ::testing::UnorderedElementsAre(Pair(Address(0), 10), Pair(Address(1), 10),
                                                         Pair(Address(2), 10)));
}

TEST_F(ServerPoolTest, OneThatGathersCallsGetsFewer) {
  Connect(3);
  const auto slow = Find(0);
  slow->CallBegins(std::chrono::steady_clock::now());
  EXPECT_EQ(Picks(30).count(slow->address()), 0u);
  slow->CallEnds();
  EXPECT_EQ(Picks(30)[slow->address()], 10);
}

TEST_F(ServerPoolTest, OneThatFailedRestsAndIsThenTriedByOne) {
  Connect(2);
  const auto failed = Find(0);
  const Server::Time now = std::chrono::steady_clock::now();
  failed->Failed(now, 5s);
  EXPECT_THAT(Picks(10), ElementsAre(Pair(Address(1), 10)));
  EXPECT_TRUE(failed->Rests(now + 4999ms));
  EXPECT_FALSE(failed->Rests(now + 5s));
  failed->CallBegins(now + 5s);
  EXPECT_TRUE(failed->Rests(now + 5s));
  failed->CallEnds();
  failed->Answered();
  failed->CallBegins(now);
  EXPECT_FALSE(failed->Rests(now));
}

TEST_F(ServerPoolTest, ACallFromBeforeTheFailureTriesNothing) {
  Server server("", {nullptr});
  const Server::Time now{1h};
  server.CallBegins(now);  // a long one
  server.Failed(now + 1s, 10ms);
  EXPECT_TRUE(server.Rests(now + 1s));
  EXPECT_FALSE(server.Rests(now + 1s + 10ms));
  server.CallBegins(now + 2s);
  EXPECT_TRUE(server.Rests(now + 2s));
  server.CallEnds();
  server.Unjudged();
  EXPECT_FALSE(server.Rests(now + 2s)) << "though the long one is still under way";
}

TEST_F(ServerPoolTest, RestsGrowUpToFiveSeconds) {
  Server server("", {nullptr});
  Server::Time now{1h};
  for (const auto rest : {500ms, 1000ms, 2000ms, 4000ms, 5000ms, 5000ms}) {
    server.Failed(now, 500ms);
    server.Failed(now + 1ms, 500ms);  // of the same mishap
    EXPECT_TRUE(server.Rests(now + rest - 1ms));
    EXPECT_FALSE(server.Rests(now + rest));
    now += rest;
  }
  server.Failed(now, 24h);
  EXPECT_FALSE(server.Rests(now + 5s));
}

TEST_F(ServerPoolTest, ARetryGoesElsewhere) {
  Connect(3);
  const auto first = Find(0), second = Find(1), third = Find(2);
  EXPECT_TRUE(pool_.HasOther({first, second}));
  EXPECT_THAT(Picks(10, {first, second}), ElementsAre(Pair(Address(2), 10)));
  third->Failed(std::chrono::steady_clock::now(), 1min);
  EXPECT_FALSE(pool_.HasOther({first, second}));
  EXPECT_THAT(Picks(10, {first, second}),
              ElementsAre(Pair(Address(2), 10)));  // better than those that failed
  EXPECT_FALSE(pool_.HasOther({first, second, third}));
}

TEST_F(ServerPoolTest, WhoCannotBeReachedIsTheLastChoice) {
  servers_.push_back(std::make_unique<FakeServer>());
  pool_.SetAddresses({Address(0), kNobody}, OpenChannel);
  WaitUntilConnected(0);
  const auto server = Find(0);
  const auto give_up_at = std::chrono::steady_clock::now() + 20s;
  while (pool_.HasOther({server})) ASSERT_LT(std::chrono::steady_clock::now(), give_up_at);
  EXPECT_THAT(Picks(10), ElementsAre(Pair(Address(0), 10)));
  EXPECT_EQ(pool_.Pick({server}).server, server);
}

TEST_F(ServerPoolTest, UntilOneIsConnectedTheTargetsChannelHasTheCalls) {
  const testing::LoopbackListener first, second;
  pool_.SetAddresses({"ipv4:" + first.target(), "ipv4:" + second.target()}, OpenChannel);
  const auto choice = pool_.Pick({});
  EXPECT_EQ(choice.server->address(), kNobody);
  EXPECT_FALSE(pool_.HasOther({choice.server})) << "it leads to whoever is connected first";
  EXPECT_THAT(Picks(10, {choice.server}), ElementsAre(Pair(kNobody, 10)));
}

TEST_F(ServerPoolTest, WhoIsNotConnectedIsNoOtherServer) {
  servers_.push_back(std::make_unique<FakeServer>());
  const testing::LoopbackListener silent;
  pool_.SetAddresses({Address(0), "ipv4:" + silent.target()}, OpenChannel);
  WaitUntilConnected(0);
  const auto server = Find(0);
  EXPECT_FALSE(pool_.HasOther({server})) << "a retry waits, as the server told";
  EXPECT_THAT(Picks(10, {server}), ElementsAre(Pair(Address(0), 10)));
}

TEST_F(ServerPoolTest, TheTargetsChannelLedToOneOfThem) {
  const auto target = pool_.Pick({}).server;
  servers_.push_back(std::make_unique<FakeServer>());
  const testing::LoopbackListener silent;
  pool_.SetAddresses({Address(0), "ipv4:" + silent.target()}, OpenChannel);
  WaitUntilConnected(0);
  EXPECT_FALSE(pool_.HasOther({target})) << "which can only have been this one";
  EXPECT_EQ(pool_.AtPeer(Address(0))->address(), Address(0)) << "as the call itself tells";
  EXPECT_EQ(pool_.AtPeer(""), target);
  servers_.push_back(std::make_unique<FakeServer>());
  pool_.SetAddresses({Address(0), Address(1)}, OpenChannel);
  WaitUntilConnected(1);
  EXPECT_TRUE(pool_.HasOther({target}));
}

TEST_F(ServerPoolTest, AddressesComeAndGoWithWhatIsKnownOfTheOthers) {
  Connect(2);
  const auto stays = Find(0);
  servers_.push_back(std::make_unique<FakeServer>());
  pool_.SetAddresses({Address(2), Address(0)}, OpenChannel);
  WaitUntilConnected(2);
  EXPECT_THAT(Picks(10), ::testing::UnorderedElementsAre(Pair(Address(0), 5), Pair(Address(2), 5)));
  EXPECT_EQ(Find(0), stays);
  pool_.SetAddresses({}, OpenChannel);  // whoever looked them up failed
  EXPECT_EQ(Picks(10).size(), 2u);
}

}  // namespace
}  // namespace headlight::client
