// SPDX-License-Identifier: Apache-2.0
//
// From the memory that the process may use to the shares of MemoryBudget.
#ifndef HEADLIGHT_SERVER_MEMORY_MEMORY_PLAN_H_
#define HEADLIGHT_SERVER_MEMORY_MEMORY_PLAN_H_

#include <cstdint>

#include "server/memory/memory_budget.h"

namespace headlight {

// What is set aside of `memory_limit_bytes` for what no lease counts: code, threads' stacks, gRPC's own
// buffers, the log, and what the allocator keeps between two uses. Never more than half.
int64_t ProcessReserveBytes(int64_t memory_limit_bytes);

// The shares of a process that may use `memory_limit_bytes` in all, of which requests leave
// `for_models_bytes` alone (0: half of what is left beside the reserve). Models in turn leave a quarter to
// requests, or what `for_models_bytes` leaves of it.
MemoryShares PlanMemory(int64_t memory_limit_bytes, int64_t for_models_bytes);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MEMORY_MEMORY_PLAN_H_
