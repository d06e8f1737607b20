// SPDX-License-Identifier: Apache-2.0
#include "client/channel_options.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/rpc/channel_factory.h"

namespace headlight::client {
namespace {

constexpr int kMinReceiveWindowBytes = 1 << 16;  // about what HTTP/2 begins with
constexpr int kMaxReceiveWindowBytes = 1 << 30;
constexpr std::chrono::milliseconds kMinKeepalive{10'000};

}  // namespace

absl::Status CheckClientOptions(const std::string& target, const ClientOptions& options) {
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

absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> OpenChannels(const std::string& target,
                                                                         const ClientOptions& options) {
  const auto factory = ChannelFactory::Create(target, options);
  if (!factory.ok()) return factory.status();
  return factory->OpenTarget();
}

}  // namespace headlight::client
