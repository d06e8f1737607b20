// SPDX-License-Identifier: Apache-2.0
//
// The server's TLS against the real client: who gets in, and certificates that change while it serves.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "headlight/v1/attention.grpc.pb.h"
#include "tests/client/tls_test.h"
#include "tests/e2e/server_process.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/observe/http_get.h"

namespace headlight::e2e {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using testing::MakeRequest;
using testing::RunProgram;
using testing::RunResult;

class ServerTlsTest : public testing::TlsTest {
 protected:
  static std::vector<std::string> Flags(bool mutual) {
    std::vector<std::string> flags = {"--models",         "demo",      "--tls-cert",
                                      File("server.pem"), "--tls-key", File("server.key")};
    if (mutual) flags.insert(flags.end(), {"--tls-client-ca", File("ca.pem")});
    return flags;
  }

  static RunResult Health(const std::string& address, std::vector<std::string> flags) {
    flags.insert(flags.begin(), {HEADLIGHT_CLIENT_PROGRAM, "health", "--server", address});
    return RunProgram(flags);
  }

  static void Overwrite(const std::string& to, const std::string& from) {
    std::filesystem::copy_file(from, to, std::filesystem::copy_options::overwrite_existing);
  }
};

TEST_F(ServerTlsTest, WhoKnowsTheAuthorityGetsInAndNobodyElse) {
  ServerProcess server(Flags(/*mutual=*/false));
  EXPECT_EQ(Health(server.address(), {"--tls-ca", File("ca.pem")}).exit_code, 0);
  EXPECT_NE(Health(server.address(), {"--tls-ca", File("other.pem")}).exit_code, 0);
  EXPECT_NE(Health(server.address(), {}).exit_code, 0);  // plain text
  EXPECT_EQ(Health(server.address(), {"--tls-ca", File("ca.pem")}).exit_code, 0);
}

TEST_F(ServerTlsTest, WithAClientAuthorityClientsNeedItsCertificate) {
  ServerProcess server(Flags(/*mutual=*/true));
  EXPECT_EQ(Health(server.address(), {"--tls-ca", File("ca.pem"), "--tls-cert", File("client.pem"),
                                      "--tls-key", File("client.key")})
                .exit_code,
            0);
  EXPECT_NE(Health(server.address(), {"--tls-ca", File("ca.pem")}).exit_code, 0);
  EXPECT_NE(Health(server.address(), {"--tls-ca", File("ca.pem"), "--tls-cert", File("other.pem"),
                                      "--tls-key", File("other.key")})
                .exit_code,
            0);
}

TEST_F(ServerTlsTest, NoTlsBelow12) {
  ServerProcess server(Flags(/*mutual=*/false));
  const auto connects = [&](const std::string& version) {
    const RunResult run = RunProgram({"/usr/bin/env", "sh", "-c",
                                      "openssl s_client -connect " + server.address() + " -" + version +
                                          " -cipher DEFAULT:@SECLEVEL=0 -alpn h2 </dev/null 2>&1"});
    return run.output.find("BEGIN CERTIFICATE") != std::string::npos;
  };
  EXPECT_TRUE(connects("tls1_2"));
  EXPECT_TRUE(connects("tls1_3"));
  EXPECT_FALSE(connects("tls1_1"));
}

TEST_F(ServerTlsTest, WrongFilesAreToldAtTheStart) {
  const auto start = [](const std::vector<std::string>& flags) {
    std::vector<std::string> argv = {HEADLIGHT_SERVER_PROGRAM, "--listen", "127.0.0.1:0", "--admin-listen", "",
                                     "--models", "demo"};
    argv.insert(argv.end(), flags.begin(), flags.end());
    return RunProgram(argv);
  };
  const std::string garbage = Write("garbage.pem", "no PEM at all\n");
  const std::string fifo = File("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--tls-cert", File("server.pem")}, "--tls-cert: wanted --tls-key with it"},
      {{"--tls-key", File("server.key")}, "--tls-key: wanted --tls-cert with it"},
      {{"--tls-client-ca", File("ca.pem")}, "--tls-client-ca: wanted --tls-cert"},
      {{"--tls-cert", File("none.pem"), "--tls-key", File("server.key")}, "none.pem"},
      {{"--tls-cert", fifo, "--tls-key", File("server.key")}, "cannot be read"},
      {{"--tls-cert", garbage, "--tls-key", File("server.key")}, "holds no PEM certificate"},
      {{"--tls-cert", File("server.pem"), "--tls-key", garbage}, "holds no PEM private key"},
      {{"--tls-cert", File("server.pem"), "--tls-key", File("client.key")}, "is not the key of"},
      {{"--tls-cert", File("server.pem"), "--tls-key", File("server.key"), "--tls-client-ca", garbage},
       "--tls-client-ca"}};
  for (const auto& [flags, message] : cases) {
    const RunResult run = start(flags);
    EXPECT_EQ(run.exit_code, 2) << run.output;
    EXPECT_THAT(run.output, HasSubstr(message));
  }
}

// What a caller who believes in `ca` is answered over a connection of its own.
grpc::Status CallOnce(const std::string& address, const std::string& ca) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ca;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto stub = v1::AttentionService::NewStub(
      grpc::CreateCustomChannel(address, grpc::SslCredentials(options), arguments));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + 20s);
  v1::AttendResponse response;
  return stub->Attend(&context, MakeRequest("demo", {1, 4, 768}), &response);
}

TEST_F(ServerTlsTest, CertificatesChangeUnderLoadWithoutAFailedCall) {
  constexpr int kRotations = 50;
  // Two pairs, of two authorities; the callers believe in both.
  Write("names2", "subjectAltName=IP:127.0.0.1\n");
  const RunResult made = RunProgram(
      {"/usr/bin/env", "sh", "-ec",
       "cd " + std::filesystem::path(File("ca.pem")).parent_path().string() +
           " && openssl req -newkey rsa:2048 -nodes -subj /CN=second -keyout second.key -out second.csr"
           " && openssl x509 -req -days 2 -in second.csr -CA other.pem -CAkey other.key -CAcreateserial"
           " -extfile names2 -out second.pem"});
  ASSERT_EQ(made.exit_code, 0) << made.output;
  const testing::TempFolder shown;
  const std::string cert = shown.File("cert.pem");
  const std::string key = shown.File("key.pem");
  Overwrite(cert, File("server.pem"));
  Overwrite(key, File("server.key"));
  const std::string first_ca = Read("ca.pem");
  const std::string second_ca = Read("other.pem");
  ServerProcess server({"--models", "demo", "--tls-cert", cert, "--tls-key", key});
  ASSERT_TRUE(CallOnce(server.address(), first_ca).ok());
  ASSERT_FALSE(CallOnce(server.address(), second_ca).ok());

  std::atomic<bool> stopping{false};
  std::atomic<int> calls{0};
  std::vector<std::string> failures;
  std::thread caller([&] {
    while (!stopping) {
      const grpc::Status status = CallOnce(server.address(), first_ca + second_ca);
      ++calls;
      if (!status.ok()) failures.push_back(status.error_message());
    }
  });
  for (int i = 1; i <= kRotations; ++i) {
    const std::string which = i % 2 == 1 ? "second" : "server";
    Overwrite(cert, File(which + ".pem"));  // for a moment they do not belong together
    std::this_thread::sleep_for(i % 10 == 0 ? 1200ms : 50ms);
    Overwrite(key, File(which + ".key"));
    std::this_thread::sleep_for(i % 10 == 0 ? 1200ms : 50ms);
  }
  Overwrite(cert, File("second.pem"));
  Overwrite(key, File("second.key"));
  EXPECT_NE(server.process().WaitForOutput("CN = second", 10s), "");
  const auto give_up = std::chrono::steady_clock::now() + 10s;
  while (!CallOnce(server.address(), second_ca).ok() && std::chrono::steady_clock::now() < give_up) {
  }
  EXPECT_TRUE(CallOnce(server.address(), second_ca).ok());
  EXPECT_FALSE(CallOnce(server.address(), first_ca).ok());
  stopping = true;
  caller.join();
  EXPECT_TRUE(failures.empty()) << failures.size() << " of " << calls << ": " << failures.front();
  EXPECT_GT(calls, kRotations);
}

TEST_F(ServerTlsTest, ABrokenFileChangesNothingAndIsTold) {
  const testing::TempFolder shown;
  const std::string cert = shown.File("cert.pem");
  const std::string key = shown.File("key.pem");
  Overwrite(cert, File("server.pem"));
  Overwrite(key, File("server.key"));
  const std::string ca = Read("ca.pem");
  ServerProcess server({"--models", "demo", "--tls-cert", cert, "--tls-key", key});
  const std::string whole = Read("server.pem");
  shown.Write("cert.pem", whole.substr(0, whole.size() / 2));
  EXPECT_THAT(server.process().WaitForOutput("the last good ones stay", 10s), HasSubstr("--tls-cert"));
  EXPECT_TRUE(CallOnce(server.address(), ca).ok());
  std::filesystem::remove(cert);
  EXPECT_NE(server.process().WaitForOutput("cannot be read", 10s), "");
  EXPECT_TRUE(CallOnce(server.address(), ca).ok());
}

// What /metrics says of the expiry, in days from now; -1: nothing.
double DaysLeft(ServerProcess& server) {
  const std::string metrics = testing::BodyOf(testing::HttpGet(server.AdminPort(), "/metrics"));
  const std::string name = "\nheadlight_tls_certificate_expiry_time_seconds ";
  const size_t at = metrics.find(name);
  if (at == std::string::npos) return -1;
  return (std::atof(metrics.c_str() + at + name.size()) - static_cast<double>(std::time(nullptr))) / 86400;
}

TEST_F(ServerTlsTest, TheMetricTellsWhenTheCertificateThatIsShownExpires) {
  const RunResult made = RunProgram({"/usr/bin/env", "sh", "-ec",
                                     "cd " + std::filesystem::path(File("ca.pem")).parent_path().string() +
                                         " && openssl x509 -req -days 9 -in server.csr -CA ca.pem -CAkey "
                                         "ca.key -CAcreateserial -out nine.pem"});
  ASSERT_EQ(made.exit_code, 0) << made.output;
  const testing::TempFolder shown;
  const std::string cert = shown.File("cert.pem");
  Overwrite(cert, File("server.pem"));
  ServerProcess server({"--models", "demo", "--tls-cert", cert, "--tls-key", File("server.key")});
  EXPECT_NEAR(DaysLeft(server), 2, 0.1);
  Overwrite(cert, File("nine.pem"));
  const auto give_up = std::chrono::steady_clock::now() + 20s;
  while (DaysLeft(server) < 3 && std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(50ms);
  EXPECT_NEAR(DaysLeft(server), 9, 0.1);

  ServerProcess plain({"--models", "demo"});
  EXPECT_EQ(DaysLeft(plain), -1);
}

}  // namespace
}  // namespace headlight::e2e
