// SPDX-License-Identifier: Apache-2.0
#include "client/channel_options.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/client_interceptor.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/rpc/proxy.h"

namespace headlight::client {
namespace {

constexpr int kMinReceiveWindowBytes = 1 << 16;  // about what HTTP/2 begins with
constexpr int kMaxReceiveWindowBytes = 1 << 30;
constexpr std::chrono::milliseconds kMinKeepalive{10'000};
constexpr int kKeepaliveTimeoutMs = 20'000;
// gRPC waits 1 s before it connects again, and all calls fail meanwhile: too long for retries that have a
// deadline.
constexpr int kFirstReconnectMs = 100;
constexpr int kLastReconnectMs = 5'000;

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
  std::string bytes(std::istreambuf_iterator<char>(file), {});
  if (!file) return absl::NotFoundError(absl::StrCat(field, ": cannot read '", path, "'"));
  return bytes;
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

absl::Status CheckOptions(const std::string& target, const ClientOptions& options) {
  const auto refuse = [](const auto&... parts) { return absl::InvalidArgumentError(absl::StrCat(parts...)); };
  if (target.empty()) return refuse("target: got an empty string, wanted HOST:PORT");
  if (options.max_message_bytes < 1) {
    return refuse("max_message_bytes: got ", options.max_message_bytes, ", wanted at least 1");
  }
  if (options.receive_window_bytes != 0 && (options.receive_window_bytes < kMinReceiveWindowBytes ||
                                            options.receive_window_bytes > kMaxReceiveWindowBytes)) {
    return refuse("receive_window_bytes: got ", options.receive_window_bytes, ", wanted 0 or ",
                  kMinReceiveWindowBytes, " to ", kMaxReceiveWindowBytes);
  }
  if (options.num_channels < 1 || options.num_channels > kMaxChannels) {
    return refuse("num_channels: got ", options.num_channels, ", wanted 1 to ", kMaxChannels);
  }
  if (options.keepalive.count() != 0 && options.keepalive < kMinKeepalive) {
    return refuse("keepalive: got ", options.keepalive.count(), " ms, wanted 0 or at least ",
                  kMinKeepalive.count(), " ms");
  }
  const TlsOptions& tls = options.tls;
  for (const auto& [field, value] : {std::pair{"ca_file", &tls.ca_file},
                                     {"cert_file", &tls.cert_file},
                                     {"key_file", &tls.key_file},
                                     {"server_name", &tls.server_name}}) {
    if (!tls.enabled && !value->empty()) {
      return refuse("tls.", field, ": got '", *value, "' without tls.enabled, wanted both or neither");
    }
  }
  if (tls.cert_file.empty() != tls.key_file.empty()) {
    const bool cert = tls.key_file.empty();
    return refuse(cert ? "tls.key_file" : "tls.cert_file", ": got none beside ",
                  cert ? "tls.cert_file" : "tls.key_file", ", wanted both or neither");
  }
  if (!options.token_file.empty() && !tls.enabled && !options.allow_token_without_tls) {
    return refuse("token_file: got '", options.token_file,
                  "' without TLS, over which a token can be read; wanted tls.enabled or "
                  "allow_token_without_tls");
  }
  return CheckRetryOptions(options.retry);
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
  if (options.load_balancing == LoadBalancing::kRoundRobin) {
    arguments.SetLoadBalancingPolicyName("round_robin");
  }
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

absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> OpenChannels(const std::string& target,
                                                                         const ClientOptions& options) {
  if (const absl::Status status = CheckOptions(target, options); !status.ok()) return status;
  const auto credentials = CredentialsOf(options.tls);
  if (!credentials.ok()) return credentials.status();
  absl::StatusOr<std::string> token = std::string();
  if (!options.token_file.empty()) token = ReadToken(options.token_file);
  if (!token.ok()) return token.status();

  grpc::ChannelArguments arguments = ArgumentsOf(options);
  const bool is_local = IsLocalTarget(target);
  if (is_local) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const std::string proxy = is_local ? "" : ProxyFor(target);
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < options.num_channels; ++i) {
    std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
    if (!token->empty()) interceptors.push_back(std::make_unique<BearerTokenFactory>(*token));
    if (!proxy.empty()) interceptors.push_back(MakeProxyNote(proxy));
    channels.push_back(grpc::experimental::CreateCustomChannelWithInterceptors(
        target, *credentials, arguments, std::move(interceptors)));
  }
  return channels;
}

}  // namespace headlight::client
