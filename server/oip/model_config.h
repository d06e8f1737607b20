// SPDX-License-Identifier: Apache-2.0
//
// A loaded model as Triton's ModelConfig describes it.
#ifndef HEADLIGHT_SERVER_OIP_MODEL_CONFIG_H_
#define HEADLIGHT_SERVER_OIP_MODEL_CONFIG_H_

#include <cstdint>

#include "inference/model_config.pb.h"
#include "server/models/loaded_model.h"

namespace headlight {

// The server's own part of a model's configuration.
struct ModelConfigLimits {
  int64_t max_message_bytes = 0;
  int64_t queue_max_requests = 0;
  int64_t default_deadline_us = 0;  // 0: none
};

void DescribeConfig(const LoadedModel& model, const ModelConfigLimits& limits, inference::ModelConfig& out);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_MODEL_CONFIG_H_
