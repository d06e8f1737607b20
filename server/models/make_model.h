// SPDX-License-Identifier: Apache-2.0
//
// From a version's folder to a model ready to serve.
#ifndef HEADLIGHT_SERVER_MODELS_MAKE_MODEL_H_
#define HEADLIGHT_SERVER_MODELS_MAKE_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/runtime/cancellation.h"
#include "server/models/model_loader.h"
#include "server/models/precision_choice.h"
#include "server/models/registry.h"

namespace headlight {

struct FolderModelOptions {
  PrecisionChoice precision;
  std::string kernel;              // empty: the fastest that fits
  int64_t memory_limit_bytes = 0;  // of all models together
};

// Checks the folder, and that the model fits beside the `held_bytes` of others, before it reads any weights;
// then packs them, measures the precision and runs the model once. RESOURCE_EXHAUSTED: it does not fit; the
// message has both numbers. CANCELLED: the token said so. Others as InspectModelFolder and LoadModel.
absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeModelFromFolder(const FolderModelOptions& options,
                                                                       const ModelSource& source,
                                                                       const CancellationToken& cancelled);

// Runs a sequence of a few tokens through the model, so that the first request finds its code and its weights
// in memory. Errors as Model::Forward.
absl::Status WarmUp(const Model& model);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_MAKE_MODEL_H_
