// SPDX-License-Identifier: Apache-2.0
//
// What tests of connections with TLS begin with: certificates, made for the occasion by the openssl command,
// and servers that show them.
#ifndef HEADLIGHT_TESTS_CLIENT_TLS_TEST_H_
#define HEADLIGHT_TESTS_CLIENT_TLS_TEST_H_

#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/security/server_credentials.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/client/fake_server.h"
#include "tests/testing/subprocess.h"
#include "tests/testing/temp_folder.h"

namespace headlight::testing {

// Two authorities that know nothing of each other, "ca.pem" and "other.pem", and what the first one has
// signed: a certificate for 127.0.0.1 and "fake.test", "server.pem", and one for a client, "client.pem". Keys
// are in "server.key" and "client.key".
class TlsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    for (const std::string ca : {"ca", "other"}) {
      OpenSsl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
               "2", "-subj", "/CN=" + ca, "-keyout", File(ca + ".key"), "-out", File(ca + ".pem")});
    }
    Write("names", "subjectAltName=IP:127.0.0.1,DNS:fake.test\n");
    for (const std::string who : {"server", "client"}) {
      OpenSsl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
               "/CN=" + who, "-keyout", File(who + ".key"), "-out", File(who + ".csr")});
      OpenSsl({"x509", "-req", "-days", "2", "-in", File(who + ".csr"), "-CA", File("ca.pem"), "-CAkey",
               File("ca.key"), "-CAcreateserial", "-extfile", File("names"), "-out", File(who + ".pem")});
    }
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string File(const std::string& name) { return folder_->File(name); }

  static std::string Read(const std::string& name) { return folder_->Read(name); }

  // Returns the path.
  static std::string Write(const std::string& name, const std::string& bytes) {
    return folder_->Write(name, bytes);
  }

  // A server that shows its certificate, and asks for one of the first authority's if `mutual`. `gatekeeper`,
  // if there is one, sees the metadata of every call, of health checks too, and may refuse it.
  static std::unique_ptr<FakeServer> Serve(
      bool mutual, std::shared_ptr<grpc::AuthMetadataProcessor> gatekeeper = nullptr) {
    grpc::SslServerCredentialsOptions options(mutual
                                                  ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                                  : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
    options.pem_root_certs = folder_->Read("ca.pem");
    options.pem_key_cert_pairs.push_back({folder_->Read("server.key"), folder_->Read("server.pem")});
    const auto credentials = grpc::SslServerCredentials(options);
    if (gatekeeper) credentials->SetAuthMetadataProcessor(gatekeeper);
    return std::make_unique<FakeServer>(FakeServer::Echo, FakeServer::Options{.credentials = credentials});
  }

 private:
  static void OpenSsl(std::vector<std::string> argv) {
    argv.insert(argv.begin(), {"/usr/bin/env", "openssl"});
    const RunResult run = RunProgram(argv);
    ASSERT_EQ(run.exit_code, 0) << run.output;
  }

  inline static TempFolder* folder_ = nullptr;
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_TLS_TEST_H_
