// SPDX-License-Identifier: Apache-2.0
//
// The RPCs about shared memory, as functions from request to response. `regions` is null where the server
// does not allow shared memory: all of them then are PERMISSION_DENIED, in a sentence that names the option.
#ifndef HEADLIGHT_SERVER_OIP_SHARED_MEMORY_RPCS_H_
#define HEADLIGHT_SERVER_OIP_SHARED_MEMORY_RPCS_H_

#include <string>

#include "absl/status/status.h"
#include "inference/grpc_service.pb.h"
#include "server/oip/shared_memory.h"

namespace headlight {

absl::Status SystemSharedMemoryStatus(const SharedMemoryRegions* regions, const std::string& tenant,
                                      const inference::SystemSharedMemoryStatusRequest& request,
                                      inference::SystemSharedMemoryStatusResponse& response);

absl::Status SystemSharedMemoryRegister(SharedMemoryRegions* regions, const std::string& tenant,
                                        const inference::SystemSharedMemoryRegisterRequest& request);

// Without a name: all of the tenant's.
absl::Status SystemSharedMemoryUnregister(SharedMemoryRegions* regions, const std::string& tenant,
                                          const inference::SystemSharedMemoryUnregisterRequest& request);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_SHARED_MEMORY_RPCS_H_
