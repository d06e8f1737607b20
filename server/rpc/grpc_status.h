// SPDX-License-Identifier: Apache-2.0
//
// The one place where our errors become gRPC's.
#ifndef HEADLIGHT_SERVER_RPC_GRPC_STATUS_H_
#define HEADLIGHT_SERVER_RPC_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace headlight {

// The same code; the message cut after 2 KiB, for it travels in trailing metadata, of which clients accept 8
// KiB.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_GRPC_STATUS_H_
