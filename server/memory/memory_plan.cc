// SPDX-License-Identifier: Apache-2.0
#include "server/memory/memory_plan.h"

#include <algorithm>

namespace headlight {
namespace {

// A server without models that has answered a few requests is about 40 MiB large.
constexpr int64_t kIdleProcessBytes = int64_t{64} << 20;
// Fragmentation grows with what is in use.
constexpr int64_t kSlackDivisor = 16;

}  // namespace

int64_t ProcessReserveBytes(int64_t memory_limit_bytes) {
  return std::min(kIdleProcessBytes + memory_limit_bytes / kSlackDivisor, memory_limit_bytes / 2);
}

MemoryShares PlanMemory(int64_t memory_limit_bytes, int64_t for_models_bytes) {
  MemoryShares shares;
  shares.limit = memory_limit_bytes - ProcessReserveBytes(memory_limit_bytes);
  shares.models_reserved = for_models_bytes > 0 ? std::min(for_models_bytes, shares.limit) : shares.limit / 2;
  shares.requests_reserved = std::min(shares.limit / 4, shares.limit - shares.models_reserved);
  return shares;
}

}  // namespace headlight
