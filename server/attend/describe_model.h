// SPDX-License-Identifier: Apache-2.0
//
// A loaded model as headlight.v1 describes it.
#ifndef HEADLIGHT_SERVER_ATTEND_DESCRIBE_MODEL_H_
#define HEADLIGHT_SERVER_ATTEND_DESCRIBE_MODEL_H_

#include <cstdint>

#include "headlight/v1/attention.pb.h"
#include "server/models/registry.h"

namespace headlight {

// Fills in every field but load_error.
void Describe(const LoadedModel& model, int64_t max_message_bytes, v1::Model& out);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_ATTEND_DESCRIBE_MODEL_H_
