// SPDX-License-Identifier: Apache-2.0
//
// What a model has computed, as Triton's ModelStatistics tells it.
#ifndef HEADLIGHT_SERVER_OIP_MODEL_STATISTICS_H_
#define HEADLIGHT_SERVER_OIP_MODEL_STATISTICS_H_

#include "inference/grpc_service.pb.h"
#include "server/models/loaded_model.h"
#include "server/observe/model_tally.h"

namespace headlight {

void DescribeStatistics(const LoadedModel& model, const ModelTally& tally, inference::ModelStatistics& out);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_MODEL_STATISTICS_H_
