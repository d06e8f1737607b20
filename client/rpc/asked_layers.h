// SPDX-License-Identifier: Apache-2.0
//
// Servers from before WeightsOptions.layers do not know the field, and answer with the weights of the last
// layer as if nothing had been asked.
#ifndef HEADLIGHT_CLIENT_RPC_ASKED_LAYERS_H_
#define HEADLIGHT_CLIENT_RPC_ASKED_LAYERS_H_

#include <cstdint>

#include "client/attend_call.h"

namespace headlight::client {

// Of a request for such weights of `num_layers` listed layers, 0 if it lists none: has `callback` told
// UNIMPLEMENTED, naming the field, where the reply's weights are of others than so many; else what the reply
// is.
AttendCallback WithLayersChecked(v1::WeightsMode mode, int64_t num_layers, AttendCallback callback);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_RPC_ASKED_LAYERS_H_
