// SPDX-License-Identifier: Apache-2.0
#include "server/oip/server_metadata.h"

namespace headlight {

void DescribeServer(const std::string& version, bool shared_memory, inference::ServerMetadataResponse& out) {
  out.set_name("headlight");
  out.set_version(version);
  // Left out: sequence, cuda_shared_memory and trace, whose settings nobody can change.
  for (const char* extension :
       {"classification", "model_repository", "model_repository(unload_dependents)", "schedule_policy",
        "model_configuration", "binary_tensor_data", "parameters", "statistics", "logging"}) {
    out.add_extensions(extension);
  }
  if (shared_memory) out.add_extensions("system_shared_memory");
}

}  // namespace headlight
