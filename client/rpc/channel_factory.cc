// SPDX-License-Identifier: Apache-2.0
#include "client/rpc/channel_factory.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/client_interceptor.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/rpc/proxy.h"
#include "client/rpc/target.h"

namespace headlight::client {
namespace {

constexpr int kKeepaliveTimeoutMs = 20'000;
// gRPC waits 1 s before it connects again, and all calls fail meanwhile: too long for retries that have a
// deadline.
constexpr int kFirstReconnectMs = 100;
constexpr int kLastReconnectMs = 2'000;
// A connection counts only while the server's health, of all of it, is SERVING; one without a health service
// always is.
constexpr char kHealthyInTurn[] =
    R"({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}})";

// Puts the token on every call of a channel. Call credentials would do the same, but only over TLS.
class BearerToken final : public grpc::experimental::Interceptor {
 public:
  explicit BearerToken(const std::string& value) : value_(value) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", value_);
    }
    methods->Proceed();
  }

 private:
  const std::string& value_;  // the factory's, which lives as long as the channel
};

class BearerTokenFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit BearerTokenFactory(const std::string& token) : value_("Bearer " + token) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo*) override {
    return new BearerToken(value_);  // gRPC owns it
  }

 private:
  const std::string value_;
};

absl::StatusOr<std::string> ReadFile(const char* field, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (file.peek() != std::ifstream::traits_type::eof()) bytes << file.rdbuf();  // a folder has no first byte
  if (!file.is_open() || file.bad() || !bytes)
    return absl::NotFoundError(absl::StrCat(field, ": cannot read '", path, "'"));
  return std::move(bytes).str();
}

absl::StatusOr<std::string> ReadPem(const char* field, const std::string& path) {
  if (path.empty()) return std::string();
  absl::StatusOr<std::string> pem = ReadFile(field, path);
  if (pem.ok() && pem->find("-----BEGIN ") == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": '", path, "' is not PEM, wanted -----BEGIN ..."));
  }
  return pem;
}

// Says nothing of the contents, whatever is wrong with them.
absl::StatusOr<std::string> ReadToken(const std::string& path) {
  const absl::StatusOr<std::string> bytes = ReadFile("token_file", path);
  if (!bytes.ok()) return bytes.status();
  const std::string token(absl::StripAsciiWhitespace(*bytes));
  const bool printable =
      std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (token.empty() || !printable) {
    return absl::InvalidArgumentError(absl::StrCat("token_file: '", path, "' ",
                                                   token.empty() ? "is empty" : "has other characters",
                                                   ", wanted one word of printable ASCII"));
  }
  return token;
}

grpc::ChannelArguments ArgumentsOf(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxSendMessageSize(options.max_message_bytes);
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  if (options.receive_window_bytes != 0) {
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, options.receive_window_bytes);
  }
  const bool own = options.connection == Connection::kOwn || options.num_channels > 1;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, own ? 1 : 0);
  if (options.load_balancing == LoadBalancing::kRoundRobin) arguments.SetServiceConfigJSON(kHealthyInTurn);
  if (options.keepalive.count() != 0) {
    const int64_t longest = std::numeric_limits<int>::max();
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                     static_cast<int>(std::min<int64_t>(options.keepalive.count(), longest)));
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // as long as a long computation takes
  }
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLastReconnectMs);
  if (!options.tls.server_name.empty()) arguments.SetSslTargetNameOverride(options.tls.server_name);
  return arguments;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsOf(const TlsOptions& tls) {
  if (!tls.enabled) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  for (const auto& [field, path, pem] : {std::tuple{"tls.ca_file", &tls.ca_file, &ssl.pem_root_certs},
                                         {"tls.cert_file", &tls.cert_file, &ssl.pem_cert_chain},
                                         {"tls.key_file", &tls.key_file, &ssl.pem_private_key}}) {
    absl::StatusOr<std::string> read = ReadPem(field, *path);
    if (!read.ok()) return read.status();
    *pem = *std::move(read);
  }
  return grpc::SslCredentials(ssl);
}

}  // namespace

absl::StatusOr<ChannelFactory> ChannelFactory::Create(const std::string& target,
                                                      const ClientOptions& options) {
  if (absl::Status status = CheckClientOptions(target, options); !status.ok()) return status;
  auto credentials = CredentialsOf(options.tls);
  if (!credentials.ok()) return credentials.status();
  absl::StatusOr<std::string> token = std::string();
  if (!options.token_file.empty()) token = ReadToken(options.token_file);
  if (!token.ok()) return token.status();
  ChannelFactory factory;
  factory.target_ = target;
  factory.num_channels_ = options.num_channels;
  factory.arguments_ = ArgumentsOf(options);
  factory.credentials_ = *std::move(credentials);
  factory.token_ = *std::move(token);
  if (IsLocalTarget(target)) {
    factory.arguments_.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  } else {
    factory.proxy_ = ProxyFor(target);
  }
  return factory;
}

std::vector<std::shared_ptr<grpc::Channel>> ChannelFactory::OpenTarget() const {
  return Open(target_, arguments_);
}

std::vector<std::shared_ptr<grpc::Channel>> ChannelFactory::OpenAddress(const std::string& address) const {
  grpc::ChannelArguments arguments = arguments_;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const std::string name = NameToLookUp(target_);
  if (!name.empty()) arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, name);
  return Open(address, arguments);
}

std::vector<std::shared_ptr<grpc::Channel>> ChannelFactory::Open(
    const std::string& target, const grpc::ChannelArguments& arguments) const {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < num_channels_; ++i) {
    std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
    if (!token_.empty()) interceptors.push_back(std::make_unique<BearerTokenFactory>(token_));
    if (!proxy_.empty()) interceptors.push_back(MakeProxyNote(proxy_));
    channels.push_back(grpc::experimental::CreateCustomChannelWithInterceptors(
        target, credentials_, arguments, std::move(interceptors)));
  }
  return channels;
}

}  // namespace headlight::client
