// SPDX-License-Identifier: Apache-2.0
//
// Makes the channels of a client, all with the same options.
#ifndef HEADLIGHT_CLIENT_RPC_CHANNEL_FACTORY_H_
#define HEADLIGHT_CLIENT_RPC_CHANNEL_FACTORY_H_

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/channel_options.h"

namespace headlight::client {

// Thread-safe, as nothing changes.
class ChannelFactory {
 public:
  // Reads the files that the options name. Errors as OpenChannels has them.
  static absl::StatusOr<ChannelFactory> Create(const std::string& target, const ClientOptions& options);

  // `num_channels` of them, to the target as gRPC sees it.
  std::vector<std::shared_ptr<grpc::Channel>> OpenTarget() const;

  // As many to one of its addresses, without a proxy; who answers there must be whom the target names.
  std::vector<std::shared_ptr<grpc::Channel>> OpenAddress(const std::string& address) const;

  const std::string& target() const { return target_; }
  // Whether gRPC reaches the target through a proxy, which then knows the addresses, and nobody else.
  bool has_proxy() const { return !proxy_.empty(); }

 private:
  ChannelFactory() = default;

  std::vector<std::shared_ptr<grpc::Channel>> Open(const std::string& target,
                                                   const grpc::ChannelArguments& arguments) const;

  std::string target_;
  int num_channels_ = 1;
  grpc::ChannelArguments arguments_;
  std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::string token_;
  std::string proxy_;
};

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_CHANNEL_FACTORY_H_
