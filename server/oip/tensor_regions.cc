// SPDX-License-Identifier: Apache-2.0
#include "server/oip/tensor_regions.h"

namespace headlight {

absl::Status NoTensorRegions() {
  return absl::PermissionDeniedError(
      "shared_memory_region: this server takes no tensors from shared memory; --allow-shared-memory lets it");
}

}  // namespace headlight
