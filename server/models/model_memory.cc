// SPDX-License-Identifier: Apache-2.0
#include "server/models/model_memory.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace headlight {

absl::StatusOr<Lease> ReserveForLoading(const MemoryEstimate& estimate, MemoryBudget* memory) {
  if (memory == nullptr) return Lease();
  std::optional<Lease> lease = memory->TryReserve(MemoryKind::kModel, estimate.peak_bytes);
  if (lease) return *std::move(lease);
  const int64_t held_bytes = memory->Held(MemoryKind::kModel);
  const int64_t limit_bytes = memory->limit_of_models();
  const int64_t held_by_requests = memory->held() - held_bytes;
  const int64_t free_bytes = std::min(limit_bytes - held_bytes, memory->limit() - memory->held());
  return absl::ResourceExhaustedError(
      absl::StrCat("loading it takes up to ", estimate.peak_bytes, " bytes (", estimate.packed_bytes,
                   " once loaded), of the ", limit_bytes, " bytes for models (--memory-limit) ",
                   std::max<int64_t>(free_bytes, 0), " are free: other models hold ", held_bytes,
                   ", requests ", held_by_requests));
}

}  // namespace headlight
