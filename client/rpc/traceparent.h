// SPDX-License-Identifier: Apache-2.0
//
// The header by which a call belongs to a trace (W3C Trace Context).
#ifndef HEADLIGHT_CLIENT_RPC_TRACEPARENT_H_
#define HEADLIGHT_CLIENT_RPC_TRACEPARENT_H_

#include <grpcpp/client_context.h>

#include <string>

#include "absl/status/status.h"

namespace headlight::client {

// Empty is fine. INVALID_ARGUMENT: it is no traceparent of version 00. gRPC ends the process over a header
// with bytes that it may not have, so nothing else must reach it.
absl::Status CheckTraceparent(const std::string& traceparent);

// Sends it with the call, unless it is empty. Requires that CheckTraceparent finds nothing.
void SetTraceparent(grpc::ClientContext& context, const std::string& traceparent);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_TRACEPARENT_H_
