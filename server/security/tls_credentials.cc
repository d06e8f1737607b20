// SPDX-License-Identifier: Apache-2.0
#include "server/security/tls_credentials.h"

#include <grpc/grpc.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <utility>

#include "core/base/status_macros.h"

namespace headlight {
namespace {

void LogCertificate(const TlsFacts& facts) {
  spdlog::info("TLS certificate of {}, valid until {}", facts.subject, facts.valid_until);
  if (!facts.warning.empty()) spdlog::warn("{}", facts.warning);
}

void LogRefused(const absl::Status& why) {
  spdlog::warn("the TLS files have changed and are not taken, the last good ones stay: {}",
               std::string(why.message()));
}

}  // namespace

absl::StatusOr<std::shared_ptr<TlsCredentials>> TlsCredentials::Create(const TlsFiles& files) {
  HEADLIGHT_RETURN_IF_ERROR(CheckTlsOptions(files));
  HEADLIGHT_ASSIGN_OR_RETURN(TlsPem pem, ReadTlsFiles(files));
  HEADLIGHT_ASSIGN_OR_RETURN(const TlsFacts facts, CheckTls(files, pem));
  LogCertificate(facts);
  return std::shared_ptr<TlsCredentials>(new TlsCredentials(files, std::move(pem), facts.valid_until_s));
}

TlsCredentials::TlsCredentials(const TlsFiles& files, TlsPem pem, int64_t valid_until_s)
    : files_(files), pem_(std::move(pem)), valid_until_s_(valid_until_s) {
  const auto clients = files_.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  credentials_ = grpc_ssl_server_credentials_create_with_options(
      grpc_ssl_server_credentials_create_options_using_config_fetcher(
          clients,
          [](void* self, grpc_ssl_server_certificate_config** config) {
            return static_cast<TlsCredentials*>(self)->Fetch(config);
          },
          this));
}

TlsCredentials::~TlsCredentials() { grpc_server_credentials_release(credentials_); }

void TlsCredentials::LookForChanges() {
  absl::StatusOr<TlsPem> pem = ReadTlsFiles(files_);
  const std::lock_guard lock(mutex_);
  if (!pem.ok()) {
    const std::string complaint(pem.status().message());
    if (complaint != complaint_) LogRefused(pem.status());
    complaint_ = complaint;
    return;
  }
  complaint_.clear();
  if (*pem == pem_ || *pem == refused_) return;
  const absl::StatusOr<TlsFacts> facts = CheckTls(files_, *pem);
  if (!facts.ok()) {
    LogRefused(facts.status());
    refused_ = *std::move(pem);
    return;
  }
  LogCertificate(*facts);
  pem_ = *std::move(pem);
  valid_until_s_ = facts->valid_until_s;
  refused_ = TlsPem();
  is_new_ = true;
}

grpc_ssl_certificate_config_reload_status TlsCredentials::Fetch(grpc_ssl_server_certificate_config** config) {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(is_new_, false)) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {pem_.key.c_str(), pem_.cert.c_str()};
  // Without authorities gRPC would end the process. Where no client is asked for a certificate they mean
  // nothing.
  const std::string& authorities = pem_.client_ca.empty() ? pem_.cert : pem_.client_ca;
  *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, /*num_key_cert_pairs=*/1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

int TlsCredentials::AddPortToServer(const std::string& address, grpc_server* server) {
  return grpc_server_add_http2_port(server, address.c_str(), credentials_);
}

void TlsCredentials::SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) {
  // Nobody may believe that calls are checked which are not.
  spdlog::critical("TlsCredentials take no AuthMetadataProcessor");
  std::terminate();
}

}  // namespace headlight
