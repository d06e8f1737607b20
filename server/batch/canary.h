// SPDX-License-Identifier: Apache-2.0
//
// The first computations of a model that is about to serve, and one that shows later whether it still
// computes the same: nobody's.
#ifndef HEADLIGHT_SERVER_BATCH_CANARY_H_
#define HEADLIGHT_SERVER_BATCH_CANARY_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/models/loaded_model.h"
#include "server/schedule/clock.h"
#include "server/schedule/scheduler.h"

namespace headlight {

// Computes zeros with `model` the way requests are computed, and waits for them; the scheduler knows from
// then on about what its requests take. INTERNAL: what came out is not finite. Others: the scheduler's.
absl::Status ComputeCanary(const std::shared_ptr<const LoadedModel>& model, Scheduler& scheduler,
                           const Clock& clock);

// The bytes of what `model` makes of a few tokens that are always the same, and so the same bytes each time.
// Waits and fails as ComputeCanary.
absl::StatusOr<std::string> ComputeCanaryBits(const std::shared_ptr<const LoadedModel>& model,
                                              Scheduler& scheduler, const Clock& clock);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_BATCH_CANARY_H_
