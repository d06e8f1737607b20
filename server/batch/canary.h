// SPDX-License-Identifier: Apache-2.0
//
// The first computation of a server that has just started: nobody's.
#ifndef HEADLIGHT_SERVER_BATCH_CANARY_H_
#define HEADLIGHT_SERVER_BATCH_CANARY_H_

#include <memory>

#include "absl/status/status.h"
#include "server/models/loaded_model.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"

namespace headlight {

// Computes a few tokens of zeros with `model` the way requests are computed, and waits for them. INTERNAL:
// what came out is not finite. Others: the scheduler's.
absl::Status ComputeCanary(const std::shared_ptr<const LoadedModel>& model, Scheduler& scheduler,
                           const Clock& clock);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_CANARY_H_
