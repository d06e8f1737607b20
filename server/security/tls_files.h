// SPDX-License-Identifier: Apache-2.0
//
// The files that a server shows and believes in, read and checked before anybody relies on them.
#ifndef HEADLIGHT_SERVER_SECURITY_TLS_FILES_H_
#define HEADLIGHT_SERVER_SECURITY_TLS_FILES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace headlight {

// Paths of PEM files.
struct TlsFiles {
  std::string cert;       // --tls-cert: the server's certificate, and those between it and its authority
  std::string key;        // --tls-key: its private key, not encrypted
  std::string client_ca;  // --tls-client-ca: who signs clients' certificates; empty: clients need none

  bool empty() const { return cert.empty() && key.empty() && client_ca.empty(); }
};

// What they hold.
struct TlsPem {
  std::string cert;
  std::string key;
  std::string client_ca;

  bool operator==(const TlsPem& other) const {
    return cert == other.cert && key == other.key && client_ca == other.client_ca;
  }
};

// What is worth telling of a certificate.
struct TlsFacts {
  std::string subject;        // safe to print
  std::string valid_until;    // UTC
  int64_t valid_until_s = 0;  // the same, since 1970
  std::string warning;        // a sentence, if it is not valid now; else empty
};

// INVALID_ARGUMENT: one cannot be read, or is no PEM file of sensible size; names the option and the file.
absl::StatusOr<TlsPem> ReadTlsFiles(const TlsFiles& files);

// Whether OpenSSL takes them as they are: certificates and key can be parsed and belong together.
// INVALID_ARGUMENT as above. A certificate that has expired is taken.
absl::StatusOr<TlsFacts> CheckTls(const TlsFiles& files, const TlsPem& pem);

// Whether the options name files that make sense together. INVALID_ARGUMENT names those that lack.
absl::Status CheckTlsOptions(const TlsFiles& files);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SECURITY_TLS_FILES_H_
