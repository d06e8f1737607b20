// SPDX-License-Identifier: Apache-2.0
//
// A refusal travels within a status, as its payload, so that callers who know nothing of it need not care.
#ifndef HEADLIGHT_CLIENT_WIRE_REFUSAL_H_
#define HEADLIGHT_CLIENT_WIRE_REFUSAL_H_

#include "absl/status/status.h"
#include "client/attend_call.h"

namespace headlight::client {

// `status` itself if there is nothing to add. RefusalOf (attend_call.h) reads it.
absl::Status WithRefusal(absl::Status status, const Refusal& refusal);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_WIRE_REFUSAL_H_
