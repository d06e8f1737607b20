// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <string>

#include "client/client.h"
#include "tests/client/fake_server.h"
#include "tests/testing/status_matchers.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Nothing listens on port 1, and only root may.
constexpr char kDeadProxy[] = "http://someone:secret@127.0.0.1:1";

// Sets the environment's proxies, and what they were afterwards.
class ProxyTest : public ::testing::Test {
 protected:
  ProxyTest() {
    for (const char* name : {"grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"}) {
      if (const char* const value = std::getenv(name)) before_[name] = value;
      unsetenv(name);
    }
  }
  ~ProxyTest() override {
    for (const char* name : {"grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"}) {
      unsetenv(name);
    }
    for (const auto& [name, value] : before_) setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::map<std::string, std::string> before_;
};

TEST_F(ProxyTest, LocalTargetsAreToldFromOthers) {
  for (const char* local : {"127.0.0.1:8001", "127.8.9.10:1", "127.0.0.1", "localhost:8001", "LocalHost",
                            "[::1]:8001", "::1", "unix:/run/headlight.sock", "unix:///run/headlight.sock",
                            "unix-abstract:x", "ipv4:127.0.0.1:1,127.0.0.2:1", "ipv6:[::1]:8001",
                            "dns:///localhost:8001", "dns://8.8.8.8/localhost:8001", "dns:localhost"}) {
    EXPECT_TRUE(IsLocalTarget(local)) << local;
  }
  for (const char* other :
       {"128.0.0.1:8001", "127.0.0.1.example:8001", "1270.0.0.1", "127.0.0:1", "example:8001",
        "localhost.example:1", "[::2]:8001", "ipv4:127.0.0.1:1,10.0.0.1:1", "dns:///example",
        "dns://127.0.0.1/example:1", "xds:///headlight", ""}) {
    EXPECT_FALSE(IsLocalTarget(other)) << other;
  }
}

TEST_F(ProxyTest, TheProxyIsTheOneThatGrpcTakes) {
  EXPECT_EQ(ProxyFor("example:8001"), "");
  setenv("http_proxy", kDeadProxy, 1);
  EXPECT_EQ(ProxyFor("example:8001"), "http://127.0.0.1:1");  // without user and password
  setenv("https_proxy", "http://proxy.example:3128/", 1);
  EXPECT_EQ(ProxyFor("dns:///example:8001"), "http://proxy.example:3128");
  setenv("grpc_proxy", "http://[::2]:80", 1);
  EXPECT_EQ(ProxyFor("example"), "http://[::2]:80");
  setenv("grpc_proxy", "socks5://proxy.example:1", 1);
  EXPECT_EQ(ProxyFor("example"), "");  // which gRPC logs and does without
}

TEST_F(ProxyTest, HostsAreExcepted) {
  setenv("http_proxy", kDeadProxy, 1);
  setenv("no_proxy", "other, .example ,10.1.2.3", 1);
  EXPECT_EQ(ProxyFor("a.example:8001"), "");
  EXPECT_EQ(ProxyFor("ipv4:10.1.2.3:8001"), "");
  EXPECT_EQ(ProxyFor("example.org:8001"), "http://127.0.0.1:1");
  setenv("no_grpc_proxy", "nobody", 1);
  EXPECT_EQ(ProxyFor("a.example:8001"), "http://127.0.0.1:1");  // takes the place of no_proxy
}

TEST_F(ProxyTest, ALocalServerIsReachedWithoutIt) {
  setenv("http_proxy", kDeadProxy, 1);
  FakeServer server;
  for (const std::string& target : {server.target(), "localhost:" + std::to_string(server.port())}) {
    const auto client =
        Client::Create(target, {.connection = Connection::kOwn, .retry = {.max_attempts = 1}});
    EXPECT_THAT(client->ListModels(20s), IsOk()) << target;
  }
}

TEST_F(ProxyTest, AFailureNamesTheProxyOfEveryKindOfCall) {
  setenv("http_proxy", kDeadProxy, 1);
  const auto client = Client::Create("headlight.invalid:8001",
                                     {.connection = Connection::kOwn, .retry = {.max_attempts = 1}});
  const auto names_the_proxy = StatusIs(
      absl::StatusCode::kUnavailable,
      AllOf(HasSubstr("through the proxy http://127.0.0.1:1 of the environment"), Not(HasSubstr("secret"))));
  EXPECT_THAT(client->ListModels(20s), names_the_proxy);
  const Tensor query{.shape = {1}, .values = {1}};
  EXPECT_THAT(client->Attend({.query = query.View()}, 20s), names_the_proxy);
  EXPECT_THAT((*client->OpenStream(20s))->Finish(), names_the_proxy);
}

}  // namespace
}  // namespace headlight::client
