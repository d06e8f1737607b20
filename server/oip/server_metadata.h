// SPDX-License-Identifier: Apache-2.0
//
// What this server is, as OIP's ServerMetadata tells it.
#ifndef HEADLIGHT_SERVER_OIP_SERVER_METADATA_H_
#define HEADLIGHT_SERVER_OIP_SERVER_METADATA_H_

#include <string>

#include "inference/grpc_service.pb.h"

namespace headlight {

// `version` is that of the program. Of Triton's extensions those that are served: clients go by that.
void DescribeServer(const std::string& version, bool shared_memory, inference::ServerMetadataResponse& out);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_SERVER_METADATA_H_
