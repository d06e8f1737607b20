// SPDX-License-Identifier: Apache-2.0
//
// The control methods of each service, by the names that its proto file gives them.
#ifndef HEADLIGHT_SERVER_RPC_CONTROL_METHODS_H_
#define HEADLIGHT_SERVER_RPC_CONTROL_METHODS_H_

#include "server/attend/attention_service.h"
#include "server/oip/inference_service.h"
#include "server/rpc/exchange_service.h"

namespace headlight {

// The service must outlive `server`.
void AddControlMethods(const AttentionService& service, ExchangeService& server);
void AddControlMethods(const InferenceService& service, ExchangeService& server);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_RPC_CONTROL_METHODS_H_
