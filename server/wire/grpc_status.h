// SPDX-License-Identifier: Apache-2.0
//
// The one place where our errors become gRPC's.
#ifndef HEADLIGHT_SERVER_WIRE_GRPC_STATUS_H_
#define HEADLIGHT_SERVER_WIRE_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <cstdint>

#include "absl/status/status.h"
#include "server/schedule/ticket.h"

namespace headlight {

// The same code; the message cut after 2 KiB, for it travels in trailing metadata, of which clients accept 8
// KiB.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The same, and when there is a time to come again a google.rpc.RetryInfo among the status's details.
grpc::Status ToGrpcStatus(const Refusal& refusal);

// When to come again, in milliseconds and at least 1; 0 where that would not help.
int64_t RetryDelayMs(const Refusal& refusal);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_WIRE_GRPC_STATUS_H_
