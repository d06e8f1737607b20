// SPDX-License-Identifier: Apache-2.0
//
// What calls of every kind are refused for, and what a refusal says beside its status.
#ifndef HEADLIGHT_SERVER_RPC_REFUSALS_H_
#define HEADLIGHT_SERVER_RPC_REFUSALS_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "headlight/v1/metadata.h"
#include "server/schedule/ticket.h"
#include "server/wire/grpc_status.h"

namespace headlight {

// When to come again, at the least, after memory was short.
inline constexpr int64_t kMemoryRetryUs = 10'000;

inline Refusal EndedEarly() {
  return {absl::CancelledError("the call ended before its request had arrived"), kReasonCancelled,
          /*retry_after_us=*/0};
}

// The reason, and when to come again where that helps. Before the call is finished.
inline void AddTrailers(const Refusal& refusal, grpc::CallbackServerContext& context) {
  const int64_t delay_ms = RetryDelayMs(refusal);
  if (delay_ms > 0) context.AddTrailingMetadata(v1::kPushbackTrailer, absl::StrCat(delay_ms));
  if (!refusal.reason.empty()) context.AddTrailingMetadata(v1::kReasonTrailer, refusal.reason);
}

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_REFUSALS_H_
