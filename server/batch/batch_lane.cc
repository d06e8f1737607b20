// SPDX-License-Identifier: Apache-2.0
#include "server/batch/batch_lane.h"

#include <cstddef>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/batch/batch_work.h"

namespace headlight {

absl::Status BatchLane::Run(std::span<const std::unique_ptr<Ticket>> batch) {
  try {
    std::vector<const BatchInput*> inputs;
    inputs.reserve(batch.size());
    Lease memory;
    for (const auto& ticket : batch) {
      auto& work = static_cast<BatchWork&>(*ticket->work);
      inputs.push_back(&work.input);
      work.batch_memory.Relabel(MemoryKind::kBatch);
      memory.Absorb(std::move(work.batch_memory));
    }
    HEADLIGHT_ASSIGN_OR_RETURN(std::vector<BatchResult> results, executor_.Execute(inputs, memory));
    for (size_t i = 0; i < batch.size(); ++i) {
      static_cast<BatchWork&>(*batch[i]->work).result = std::move(results[i]);
    }
    return absl::OkStatus();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("the batch failed: ", error.what()));
  }
}

}  // namespace headlight
