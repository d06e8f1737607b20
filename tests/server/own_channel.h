// SPDX-License-Identifier: Apache-2.0
//
// A channel to a server under test.
#ifndef HEADLIGHT_TESTS_SERVER_OWN_CHANNEL_H_
#define HEADLIGHT_TESTS_SERVER_OWN_CHANNEL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

namespace headlight::testing {

// With a connection of its own: others of the process to the same port do not share it.
inline std::shared_ptr<grpc::Channel> OwnChannelTo(int port) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_SERVER_OWN_CHANNEL_H_
