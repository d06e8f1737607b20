// SPDX-License-Identifier: Apache-2.0
//
// What a refusal says beside its status.
#ifndef HEADLIGHT_SERVER_RPC_REFUSAL_TRAILERS_H_
#define HEADLIGHT_SERVER_RPC_REFUSAL_TRAILERS_H_

#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "headlight/v1/metadata.h"
#include "server/schedule/ticket.h"
#include "server/wire/grpc_status.h"

namespace headlight {

// The reason, and when to come again where that helps. Before the call is finished.
inline void AddTrailers(const Refusal& refusal, grpc::CallbackServerContext& context) {
  const int64_t delay_ms = RetryDelayMs(refusal);
  if (delay_ms > 0) context.AddTrailingMetadata(v1::kPushbackTrailer, absl::StrCat(delay_ms));
  if (!refusal.reason.empty()) context.AddTrailingMetadata(v1::kReasonTrailer, refusal.reason);
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_REFUSAL_TRAILERS_H_
