// SPDX-License-Identifier: Apache-2.0
//
// From a version's folder to a model ready to serve.
#ifndef HEADLIGHT_SERVER_MODELS_MAKE_MODEL_H_
#define HEADLIGHT_SERVER_MODELS_MAKE_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/config.h"
#include "core/runtime/cancellation.h"
#include "server/memory/memory_budget.h"
#include "server/models/loaded_model.h"
#include "server/models/model_loader.h"
#include "server/models/precision_choice.h"

namespace headlight {

struct FolderModelOptions {
  PrecisionChoice precision;
  PrecisionChoice parameters_precision;
  bool strict = false;  // whether keys that config.json has and nobody knows are errors
  std::map<std::string, std::vector<Pooling>> pooling;  // by name, goes before what the files say
  std::string kernel;                                   // empty: the fastest that fits
  MemoryBudget* memory = nullptr;                       // that must hold it, all the time; null: not counted
};

// Checks the folder and reserves the memory that loading takes before it reads any weights;
// then packs them and measures the precision. RESOURCE_EXHAUSTED: it does not fit; the
// message has both numbers. CANCELLED: the token said so. Others as InspectModelFolder and PackModel.
absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeModelFromFolder(const FolderModelOptions& options,
                                                                       const ModelSource& source,
                                                                       const CancellationToken& cancelled);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_MAKE_MODEL_H_
