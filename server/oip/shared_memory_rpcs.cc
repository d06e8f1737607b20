// SPDX-License-Identifier: Apache-2.0
#include "server/oip/shared_memory_rpcs.h"

#include <vector>

#include "core/base/status_macros.h"

namespace headlight {

absl::Status SystemSharedMemoryStatus(const SharedMemoryRegions* regions, const std::string& tenant,
                                      const inference::SystemSharedMemoryStatusRequest& request,
                                      inference::SystemSharedMemoryStatusResponse& response) {
  if (regions == nullptr) return SharedMemoryNotAllowed();
  HEADLIGHT_ASSIGN_OR_RETURN(const std::vector<SharedRegion> listed, regions->List(tenant, request.name()));
  for (const SharedRegion& region : listed) {
    auto& status = (*response.mutable_regions())[region.name];
    status.set_name(region.name);
    status.set_key(region.key);
    status.set_offset(region.offset);
    status.set_byte_size(region.byte_size);
  }
  return absl::OkStatus();
}

absl::Status SystemSharedMemoryRegister(SharedMemoryRegions* regions, const std::string& tenant,
                                        const inference::SystemSharedMemoryRegisterRequest& request) {
  if (regions == nullptr) return SharedMemoryNotAllowed();
  return regions->Register(tenant, {request.name(), request.key(), request.offset(), request.byte_size()});
}

absl::Status SystemSharedMemoryUnregister(SharedMemoryRegions* regions, const std::string& tenant,
                                          const inference::SystemSharedMemoryUnregisterRequest& request) {
  if (regions == nullptr) return SharedMemoryNotAllowed();
  if (request.name().empty()) {
    regions->UnregisterAll(tenant);
  } else {
    regions->Unregister(tenant, request.name());
  }
  return absl::OkStatus();
}

}  // namespace headlight
