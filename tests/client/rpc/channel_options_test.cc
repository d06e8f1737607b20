// SPDX-License-Identifier: Apache-2.0
//
// What connections are made of, against servers that ask for it.
#include "client/channel_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "tests/client/fake_server.h"
#include "tests/client/tls_test.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using ::headlight::testing::FakeServer;
using ::headlight::testing::IsOk;
using ::headlight::testing::StatusIs;
using ::headlight::testing::TempFolder;
using ::headlight::testing::TlsTest;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

constexpr auto kWrongOption = absl::StatusCode::kInvalidArgument;

absl::Status AskOnce(const absl::StatusOr<Client>& client) {
  if (!client.ok()) return client.status();
  const Tensor query{.shape = {1}, .values = {1}};
  return client->Attend({.query = query.View()}, 20s).status();
}

// No retries: what is refused stays refused.
ClientOptions With(const TlsOptions& tls) {
  return {.connection = Connection::kOwn, .tls = tls, .retry = {.max_attempts = 1}};
}

TEST_F(TlsTest, AServerOfTheRightAuthorityIsTrusted) {
  const auto server = Serve(false);
  EXPECT_THAT(AskOnce(Client::Create(server->target(), With({.enabled = true, .ca_file = File("ca.pem")}))),
              IsOk());
}

TEST_F(TlsTest, AServerOfAnotherAuthorityIsNot) {
  const auto server = Serve(false);
  const auto wrong = Client::Create(server->target(), With({.enabled = true, .ca_file = File("other.pem")}));
  EXPECT_THAT(AskOnce(wrong), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  const auto systems = Client::Create(server->target(), With({.enabled = true}));
  EXPECT_THAT(AskOnce(systems), StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  EXPECT_THAT(server->requests(), SizeIs(0));
}

TEST_F(TlsTest, TheNameInTheCertificateMustBeRight) {
  const auto server = Serve(false);
  for (const auto& [name, right] : {std::pair{"fake.test", true}, std::pair{"another.test", false}}) {
    const auto client = Client::Create(
        server->target(), With({.enabled = true, .ca_file = File("ca.pem"), .server_name = name}));
    EXPECT_EQ(AskOnce(client).ok(), right) << name;
  }
}

TEST_F(TlsTest, PlainTextDoesNotReachATlsServer) {
  const auto server = Serve(false);
  EXPECT_THAT(AskOnce(Client::Create(server->target(), With({}))), Not(IsOk()));
  EXPECT_THAT(server->requests(), SizeIs(0));
}

TEST_F(TlsTest, AServerMayWantTheClientsCertificate) {
  const auto server = Serve(true);
  EXPECT_THAT(AskOnce(Client::Create(server->target(), With({.enabled = true, .ca_file = File("ca.pem")}))),
              StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
  EXPECT_THAT(server->requests(), SizeIs(0));
  EXPECT_THAT(AskOnce(Client::Create(server->target(), With({.enabled = true,
                                                             .ca_file = File("ca.pem"),
                                                             .cert_file = File("client.pem"),
                                                             .key_file = File("client.key")}))),
              IsOk());
}

TEST_F(TlsTest, ATokenTravelsWithEveryCall) {
  const auto server = Serve(false);
  ClientOptions options = With({.enabled = true, .ca_file = File("ca.pem")});
  options.token_file = Write("token", "  s3cret\n");
  const auto client = Client::Create(server->target(), options);
  EXPECT_THAT(AskOnce(client), IsOk());
  EXPECT_THAT(AskOnce(client), IsOk());
  const auto stream = *client->OpenStream(20s);
  const Tensor query{.shape = {1}, .values = {1}};
  stream->Attend({.query = query.View()}, [](const absl::StatusOr<AttendReply>&) {});
  EXPECT_THAT(stream->Finish(), IsOk());
  EXPECT_THAT(server->authorizations(), SizeIs(3));
  EXPECT_THAT(server->authorizations(), Each("Bearer s3cret"));
}

TEST(ChannelOptionsTest, ATokenNeedsTlsUnlessAllowedOtherwise) {
  FakeServer server;
  const TempFolder folder;
  ClientOptions options{.token_file = folder.Write("token", "s3cret")};
  EXPECT_THAT(Client::Create(server.target(), options),
              StatusIs(kWrongOption, HasSubstr("wanted tls.enabled or allow_token_without_tls")));
  options.allow_token_without_tls = true;
  EXPECT_THAT(AskOnce(Client::Create(server.target(), options)), IsOk());
  EXPECT_THAT(server.authorizations(), ElementsAre("Bearer s3cret"));
}

TEST(ChannelOptionsTest, FilesThatAreNotWhatTheyShouldBeAreNamed) {
  const TempFolder folder;
  const std::string text = folder.Write("text", "two words");
  const std::string missing = folder.File("missing");
  const auto create = [](const ClientOptions& options) { return Client::Create("localhost:1", options); };
  EXPECT_THAT(create({.tls = {.enabled = true, .ca_file = missing}}),
              StatusIs(absl::StatusCode::kNotFound, "tls.ca_file: cannot read '" + missing + "'"));
  EXPECT_THAT(create({.tls = {.enabled = true, .ca_file = text}}),
              StatusIs(kWrongOption, "tls.ca_file: '" + text + "' is not PEM, wanted -----BEGIN ..."));
  const std::string itself = ::testing::TempDir();
  EXPECT_THAT(create({.token_file = itself, .allow_token_without_tls = true}),
              StatusIs(absl::StatusCode::kNotFound, "token_file: cannot read '" + itself + "'"));
  EXPECT_THAT(create({.token_file = missing, .allow_token_without_tls = true}),
              StatusIs(absl::StatusCode::kNotFound, "token_file: cannot read '" + missing + "'"));
  const auto bad_token = create({.token_file = text, .allow_token_without_tls = true});
  EXPECT_THAT(bad_token,
              StatusIs(kWrongOption, "token_file: '" + text +
                                         "' has other characters, wanted one word of printable ASCII"));
}

TEST(ChannelOptionsTest, OptionsThatContradictEachOtherAreNamed) {
  const auto create = [](const ClientOptions& options) { return Client::Create("localhost:1", options); };
  EXPECT_THAT(create({.num_channels = 0}), StatusIs(kWrongOption, "num_channels: got 0, wanted 1 to 1024"));
  EXPECT_THAT(create({.num_channels = 1025}),
              StatusIs(kWrongOption, "num_channels: got 1025, wanted 1 to 1024"));
  EXPECT_THAT(create({.keepalive = 5s}),
              StatusIs(kWrongOption, "keepalive: got 5000 ms, wanted 0 or at least 10000 ms"));
  EXPECT_THAT(create({.retry = {.max_attempts = 0}}),
              StatusIs(kWrongOption, HasSubstr("retry.max_attempts: got 0")));
  EXPECT_THAT(
      create({.tls = {.server_name = "fake.test"}}),
      StatusIs(kWrongOption, "tls.server_name: got 'fake.test' without tls.enabled, wanted both or neither"));
  EXPECT_THAT(create({.tls = {.enabled = true, .cert_file = "c"}}),
              StatusIs(kWrongOption, "tls.key_file: got none beside tls.cert_file, wanted both or neither"));
  EXPECT_THAT(create({.keepalive = 0s}), IsOk());
}

TEST(ChannelOptionsTest, RoundRobinReachesEveryServer) {
  FakeServer one;
  FakeServer other;
  const std::string target = absl::StrCat("ipv4:", one.target(), ",", other.target());
  const auto client = Client::Create(target, {.load_balancing = LoadBalancing::kRoundRobin});
  // The first calls may come before the second connection does.
  for (int i = 0; i < 500 && (one.requests().empty() || other.requests().empty()); ++i) {
    ASSERT_THAT(AskOnce(client), IsOk());
  }
  // Nor may both be found well at the same time.
  size_t of_one = 0, of_other = 0;
  for (int i = 0; i < 25 && (of_one != 10 || of_other != 10); ++i) {
    const size_t before_one = one.requests().size();
    const size_t before_other = other.requests().size();
    for (int j = 0; j < 20; ++j) ASSERT_THAT(AskOnce(client), IsOk());
    of_one = one.requests().size() - before_one;
    of_other = other.requests().size() - before_other;
  }
  EXPECT_EQ(of_one, 10u);
  EXPECT_EQ(of_other, 10u);
}

TEST(ChannelOptionsTest, PickFirstStaysWithOneServer) {
  FakeServer one;
  FakeServer other;
  const auto client = Client::Create(absl::StrCat("ipv4:", one.target(), ",", other.target()));
  for (int i = 0; i < 10; ++i) ASSERT_THAT(AskOnce(client), IsOk());
  EXPECT_EQ(one.requests().size() * other.requests().size(), 0u);
}

TEST(ChannelOptionsTest, ThereMayBeAThousandChannels) {
  FakeServer server;
  const auto client = Client::Create(server.target(), {.num_channels = kMaxChannels});
  ASSERT_THAT(AskOnce(client), IsOk());
  EXPECT_THAT(client->channels(), SizeIs(1024));
}

TEST(ChannelOptionsTest, CallsAreDealtRoundTheChannels) {
  FakeServer server;
  const auto client = Client::Create(server.target(), {.num_channels = 3});
  for (int i = 0; i < 9; ++i) ASSERT_THAT(AskOnce(client), IsOk());
  EXPECT_THAT(server.peers(), SizeIs(3));
  EXPECT_THAT(client->channels(), SizeIs(3));
}

}  // namespace
}  // namespace headlight::client
