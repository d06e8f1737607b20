// SPDX-License-Identifier: Apache-2.0
//
// A loaded model as ModelMetadata describes it.
#ifndef HEADLIGHT_SERVER_OIP_MODEL_METADATA_H_
#define HEADLIGHT_SERVER_OIP_MODEL_METADATA_H_

#include "inference/grpc_service.pb.h"
#include "server/models/loaded_model.h"

namespace headlight {

// "headlight", whatever the format of a model's files: there is one way to compute them.
inline constexpr char kPlatform[] = "headlight";

// Fills in every field but `versions`.
void DescribeMetadata(const LoadedModel& model, inference::ModelMetadataResponse& out);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_OIP_MODEL_METADATA_H_
