// SPDX-License-Identifier: Apache-2.0
#include "server/rpc/grpc_status.h"

#include <cstddef>
#include <string>

namespace headlight {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  constexpr size_t kMaxMessageBytes = 2048;
  if (status.ok()) return grpc::Status::OK;
  // Both enumerations follow google.rpc.Code number by number.
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  std::string message(status.message());
  if (message.size() > kMaxMessageBytes) message = message.substr(0, kMaxMessageBytes) + "...";
  return grpc::Status(code, message);
}

}  // namespace headlight
