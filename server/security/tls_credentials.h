// SPDX-License-Identifier: Apache-2.0
//
// TLS whose certificate can be exchanged while the server serves. gRPC 1.51's file watcher would hand over
// a key and a certificate that do not belong together, and then refuse every connection; here only what was
// checked is handed over, key and certificate at once (ADR 0019).
#ifndef HEADLIGHT_SERVER_SECURITY_TLS_CREDENTIALS_H_
#define HEADLIGHT_SERVER_SECURITY_TLS_CREDENTIALS_H_

#include <grpc/grpc_security.h>
#include <grpcpp/security/server_credentials.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "server/security/tls_files.h"

namespace headlight {

// TLS 1.2 or 1.3: gRPC's own bounds (tsi_ssl_server_handshaker_options). With a --tls-client-ca every
// client must show a certificate that it has signed. Must outlive the server that has it, and connections
// must be accepted by one thread alone: gRPC exchanges certificates without a lock when a connection
// begins.
class TlsCredentials final : public grpc::ServerCredentials {
 public:
  // INVALID_ARGUMENT as CheckTlsOptions, ReadTlsFiles and CheckTls. Logs whose certificate it is.
  static absl::StatusOr<std::shared_ptr<TlsCredentials>> Create(const TlsFiles& files);
  ~TlsCredentials() override;

  // Connections that begin from now on see what the files hold, if they have changed and are right
  // together; if they are wrong that is logged once and changes nothing. Thread-safe.
  void LookForChanges();

  // When the certificate that is shown expires, in seconds since 1970. Thread-safe.
  int64_t valid_until_s() const { return valid_until_s_.load(std::memory_order_relaxed); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>& processor) override;

 private:
  TlsCredentials(const TlsFiles& files, TlsPem pem, int64_t valid_until_s);
  int AddPortToServer(const std::string& address, grpc_server* server) override;
  grpc_ssl_certificate_config_reload_status Fetch(grpc_ssl_server_certificate_config** config);

  const TlsFiles files_;
  std::mutex mutex_;
  TlsPem pem_;             // guarded by mutex_; what is shown
  TlsPem refused_;         // guarded by mutex_; what was wrong last
  std::string complaint_;  // guarded by mutex_; what was logged last of files that cannot be read
  bool is_new_ = true;     // guarded by mutex_; gRPC does not have pem_ yet
  std::atomic<int64_t> valid_until_s_;
  grpc_server_credentials* credentials_ = nullptr;
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_TLS_CREDENTIALS_H_
