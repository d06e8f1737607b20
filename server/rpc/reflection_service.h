// SPDX-License-Identifier: Apache-2.0
//
// grpc.reflection, v1 and v1alpha, for whoever may call the server: which services there are, and the
// descriptions of what they take and give.
#ifndef HEADLIGHT_SERVER_RPC_REFLECTION_SERVICE_H_
#define HEADLIGHT_SERVER_RPC_REFLECTION_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "server/security/gate.h"

namespace headlight {

// One for each version of the protocol. They name `services`, by their full names, and themselves; what they
// describe is all that is compiled into this program. `gate` must outlive them.
std::vector<std::unique_ptr<grpc::Service>> MakeReflectionServices(const std::vector<std::string>& services,
                                                                   const Gate& gate);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_REFLECTION_SERVICE_H_
