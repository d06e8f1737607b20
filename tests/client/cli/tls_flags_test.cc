// SPDX-License-Identifier: Apache-2.0
//
// --tls and its kin, and --token-file, from the command line to a server that asks for them; for every
// command that speaks to a server.
#include <gmock/gmock.h>
#include <grpcpp/security/auth_metadata_processor.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/client/cli/run_cli.h"
#include "tests/client/tls_test.h"

namespace headlight::client {
namespace {

using ::headlight::testing::CliResult;
using ::headlight::testing::FakeServer;
using ::headlight::testing::RunHeadlight;
using ::headlight::testing::TlsTest;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

const std::vector<Words>& Commands() {
  static const auto* const commands = new std::vector<Words>{
      {"health"},
      {"models"},
      {"attend", "--shape", "1x2"},
      {"loadtest", "--shape", "1x1", "--concurrency", "2", "--warmup", "0s", "--count", "4"},
  };
  return *commands;
}

Words Join(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// Lets nobody in whose token is another one.
class WantsToken final : public grpc::AuthMetadataProcessor {
 public:
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext*, OutputMetadata*,
                       OutputMetadata*) override {
    const auto found = metadata.find("authorization");
    if (found != metadata.end() && found->second == "Bearer s3cret") return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "authorization: wanted the right bearer token");
  }
};

class TlsFlagsTest : public TlsTest {
 protected:
  // Everything that a server with its own authority, a name of its own and mTLS wants.
  static Words RightFlags() {
    return {"--tls",     "--tls-ca",         File("ca.pem"),      "--tls-cert", File("client.pem"),
            "--tls-key", File("client.key"), "--tls-server-name", "fake.test"};
  }

  // Every command with these flags fails at the server, prints nothing else, and says so.
  template <typename Error>
  static void ExpectRefused(const Words& flags, const Error& error) {
    for (const Words& command : Commands()) {
      const CliResult result = RunHeadlight(Join(command, flags));
      EXPECT_EQ(result.exit_code, 1) << command[0];
      EXPECT_THAT(result.err, error) << command[0];
      EXPECT_THAT(result.out, IsEmpty()) << command[0];
    }
  }
};

TEST_F(TlsFlagsTest, EveryCommandWorksWithTheRightFiles) {
  const auto server = Serve(true, std::make_shared<WantsToken>());
  const Words flags =
      Join(RightFlags(), {"--server", server->target(), "--token-file", Write("token", "s3cret\n")});
  for (const Words& command : Commands()) {
    const CliResult result = RunHeadlight(Join(command, flags));
    EXPECT_EQ(result.exit_code, 0) << command[0] << ": " << result.err;
    EXPECT_THAT(result.err, IsEmpty());
  }
  EXPECT_THAT(server->authorizations(), SizeIs(1 + 4));  // of attend and loadtest
  EXPECT_THAT(server->authorizations(), Each("Bearer s3cret"));
}

TEST_F(TlsFlagsTest, TheEnvironmentStandsInForEachFlag) {
  const auto server = Serve(true, std::make_shared<WantsToken>());
  const std::pair<const char*, std::string> variables[] = {
      {"HEADLIGHT_SERVER", server->target()},
      {"HEADLIGHT_TLS", "true"},
      {"HEADLIGHT_TLS_CA", File("ca.pem")},
      {"HEADLIGHT_TLS_CERT", File("client.pem")},
      {"HEADLIGHT_TLS_KEY", File("client.key")},
      {"HEADLIGHT_TLS_SERVER_NAME", "fake.test"},
      {"HEADLIGHT_TOKEN_FILE", Write("token", "s3cret")},
  };
  for (const auto& [name, value] : variables) setenv(name, value.c_str(), 1);
  const CliResult result = RunHeadlight({"health"});
  for (const auto& [name, value] : variables) unsetenv(name);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "SERVING\n");
}

TEST_F(TlsFlagsTest, WithoutTheTokenTheServersErrorIsTold) {
  const auto server = Serve(true, std::make_shared<WantsToken>());
  ExpectRefused(Join(RightFlags(), {"--server", server->target()}),
                "headlight: UNAUTHENTICATED: authorization: wanted the right bearer token\n");
}

TEST_F(TlsFlagsTest, AServerOfAnotherAuthorityIsRefusedAndTheReasonTold) {
  const auto server = Serve(false);
  ExpectRefused({"--server", server->target(), "--tls-ca", File("other.pem")},
                AllOf(StartsWith("headlight: UNAVAILABLE: "), HasSubstr("certificate verify failed")));
}

TEST_F(TlsFlagsTest, AServerOfAnotherNameIsRefusedAndTheNameTold) {
  const auto server = Serve(false);
  ExpectRefused(
      {"--server", server->target(), "--tls-ca", File("ca.pem"), "--tls-server-name", "another.test"},
      AllOf(StartsWith("headlight: UNAVAILABLE: "), HasSubstr("another.test")));
}

TEST_F(TlsFlagsTest, AServerThatWantsACertificateRefusesThoseWithoutOne) {
  const auto server = Serve(true);
  ExpectRefused({"--server", server->target(), "--tls-ca", File("ca.pem")},
                StartsWith("headlight: UNAVAILABLE: "));
}

TEST_F(TlsFlagsTest, FilesThatCannotBeReadAreNamed) {
  const std::string missing = File("missing");
  const struct {
    Words flags;
    std::string error;
  } cases[] = {
      {{"--tls-ca", missing}, "NOT_FOUND: tls.ca_file: cannot read '" + missing + "'"},
      {{"--tls-cert", missing, "--tls-key", File("client.key")},
       "NOT_FOUND: tls.cert_file: cannot read '" + missing + "'"},
      {{"--tls-cert", File("client.pem"), "--tls-key", missing},
       "NOT_FOUND: tls.key_file: cannot read '" + missing + "'"},
      {{"--tls-cert", File("client.pem")},
       "INVALID_ARGUMENT: tls.key_file: got none beside tls.cert_file, wanted both or neither"},
      {{"--tls", "--token-file", missing}, "NOT_FOUND: token_file: cannot read '" + missing + "'"},
  };
  for (const Words& command : Commands()) {
    for (const auto& [flags, error] : cases) {
      const CliResult result = RunHeadlight(Join(Join(command, flags), {"--server", "127.0.0.1:1"}));
      EXPECT_EQ(result.exit_code, 2) << command[0];
      EXPECT_EQ(result.err, "headlight: " + error + "\n");
      EXPECT_THAT(result.out, IsEmpty());
    }
  }
}

}  // namespace
}  // namespace headlight::client
