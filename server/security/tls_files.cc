// SPDX-License-Identifier: Apache-2.0
#include "server/security/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <cstddef>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/regular_file.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"

namespace headlight {
namespace {

constexpr size_t kMaxPemBytes = size_t{1} << 20;

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Context = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;

absl::Status Wrong(absl::string_view option, const std::string& path, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--", option, ": ", Quoted(path), " ", why));
}

// Why OpenSSL has failed last; leaves nothing in this thread's queue of errors, where gRPC would find it.
std::string LastError() {
  const unsigned long error = ERR_peek_last_error();
  const char* const reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  ERR_clear_error();
  return reason == nullptr ? "unknown reason" : reason;
}

absl::StatusOr<std::string> ReadFile(absl::string_view option, const std::string& path) {
  const absl::StatusOr<RegularFile> file = RegularFile::Open(path);
  if (!file.ok())
    return Wrong(option, path, absl::StrCat("cannot be read: ", std::string(file.status().message())));
  std::string bytes(kMaxPemBytes + 1, '\0');
  size_t size = 0;
  ssize_t got = 0;
  while ((got = read(file->descriptor(), &bytes[size], bytes.size() - size)) > 0)
    size += static_cast<size_t>(got);
  if (got < 0) return Wrong(option, path, "cannot be read");
  if (size == 0) return Wrong(option, path, "is empty");
  if (size > kMaxPemBytes) return Wrong(option, path, absl::StrCat("has more than ", kMaxPemBytes, " bytes"));
  bytes.resize(size);
  return bytes;
}

Bio Reading(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

std::string Written(const Bio& bio) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &bytes);
  return size > 0 ? std::string(bytes, static_cast<size_t>(size)) : "";
}

// Asked for the password of an encrypted key, which OpenSSL would else read from the terminal.
int NoPassword(char*, int, int, void*) { return -1; }

absl::StatusOr<std::vector<Certificate>> ParseCertificates(absl::string_view option, const std::string& path,
                                                           const std::string& pem) {
  std::vector<Certificate> certificates;
  const Bio bio = Reading(pem);
  while (Certificate next{PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)}) {
    certificates.push_back(std::move(next));
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string why = LastError();
  if (!at_end) return Wrong(option, path, absl::StrCat("is not wholly PEM certificates: ", why));
  if (certificates.empty()) return Wrong(option, path, "holds no PEM certificate");
  return certificates;
}

TlsFacts FactsOf(const X509* certificate) {
  TlsFacts facts;
  const Bio subject(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(subject.get(), X509_get_subject_name(certificate), 0, XN_FLAG_ONELINE);
  facts.subject = Quoted(Written(subject));
  const Bio until(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(until.get(), X509_get0_notAfter(certificate));
  facts.valid_until = Written(until);
  tm utc = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &utc) == 1) facts.valid_until_s = timegm(&utc);
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    facts.warning =
        absl::StrCat("--tls-cert: the certificate of ", facts.subject, " has expired on ", facts.valid_until);
  } else if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
    facts.warning = absl::StrCat("--tls-cert: the certificate of ", facts.subject, " is not valid yet");
  }
  return facts;
}

}  // namespace

absl::StatusOr<TlsPem> ReadTlsFiles(const TlsFiles& files) {
  TlsPem pem;
  HEADLIGHT_ASSIGN_OR_RETURN(pem.cert, ReadFile("tls-cert", files.cert));
  HEADLIGHT_ASSIGN_OR_RETURN(pem.key, ReadFile("tls-key", files.key));
  if (!files.client_ca.empty()) {
    HEADLIGHT_ASSIGN_OR_RETURN(pem.client_ca, ReadFile("tls-client-ca", files.client_ca));
  }
  return pem;
}

absl::StatusOr<TlsFacts> CheckTls(const TlsFiles& files, const TlsPem& pem) {
  HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                             ParseCertificates("tls-cert", files.cert, pem.cert));
  if (!files.client_ca.empty()) {
    HEADLIGHT_RETURN_IF_ERROR(ParseCertificates("tls-client-ca", files.client_ca, pem.client_ca).status());
  }
  const Key key(PEM_read_bio_PrivateKey(Reading(pem.key).get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) {
    return Wrong("tls-key", files.key,
                 absl::StrCat("holds no PEM private key, or an encrypted one: ", LastError()));
  }
  // As gRPC will do it: what OpenSSL finds too weak is found here.
  const Context context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError(absl::StrCat("no TLS: ", LastError()));
  if (SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1) {
    return Wrong("tls-cert", files.cert, absl::StrCat("cannot be used: ", LastError()));
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1) {
    return Wrong("tls-key", files.key,
                 absl::StrCat("is not the key of the certificate in --tls-cert: ", LastError()));
  }
  return FactsOf(chain.front().get());
}

absl::Status CheckTlsOptions(const TlsFiles& files) {
  if (files.cert.empty() != files.key.empty()) {
    return absl::InvalidArgumentError(files.key.empty() ? "--tls-cert: wanted --tls-key with it"
                                                        : "--tls-key: wanted --tls-cert with it");
  }
  if (files.cert.empty() && !files.client_ca.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca: wanted --tls-cert and --tls-key with it");
  }
  return absl::OkStatus();
}

}  // namespace headlight
