// SPDX-License-Identifier: Apache-2.0
//
// How many descriptors the system lets this process have, and how many connections fit them.
#ifndef HEADLIGHT_SERVER_RPC_DESCRIPTOR_LIMIT_H_
#define HEADLIGHT_SERVER_RPC_DESCRIPTOR_LIMIT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "server/rpc/connection_book.h"

namespace headlight {

// Raises RLIMIT_NOFILE to its hard limit, as far as the system lets us, and returns what it is then.
int64_t RaiseDescriptorLimit();

// The limits that `wanted` asks for, its zeros replaced: what `descriptors` have room for, and for one
// address a quarter of the connections, so that it takes more than one to shut others out.
// INVALID_ARGUMENT: more connections than fit.
absl::StatusOr<ConnectionLimits> FitConnections(const ConnectionLimits& wanted, int64_t descriptors);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_DESCRIPTOR_LIMIT_H_
