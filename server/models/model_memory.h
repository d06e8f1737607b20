// SPDX-License-Identifier: Apache-2.0
//
// The memory that a model takes, reserved before any of it is allocated.
#ifndef HEADLIGHT_SERVER_MODELS_MODEL_MEMORY_H_
#define HEADLIGHT_SERVER_MODELS_MODEL_MEMORY_H_

#include "absl/status/statusor.h"
#include "core/checkpoint/memory_estimate.h"
#include "server/memory/memory_budget.h"

namespace headlight {

// A lease of what loading takes at most; of nothing if `memory` is null.
// RESOURCE_EXHAUSTED: that does not fit; the message has both numbers.
absl::StatusOr<Lease> ReserveForLoading(const MemoryEstimate& estimate, MemoryBudget* memory);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_MODEL_MEMORY_H_
