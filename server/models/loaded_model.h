// SPDX-License-Identifier: Apache-2.0
//
// A model that is ready to serve: its weights packed, its precision measured.
#ifndef HEADLIGHT_SERVER_MODELS_LOADED_MODEL_H_
#define HEADLIGHT_SERVER_MODELS_LOADED_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/model/config.h"
#include "core/model/model.h"
#include "core/model/parameter_source.h"
#include "core/model/precision_error.h"
#include "server/memory/memory_budget.h"

namespace headlight {

// Immutable. Requests share it, so that a model outlives its removal while they finish.
struct LoadedModel {
  std::string name;
  std::string version;
  std::string layout;  // what the weights were stored as: "bert", ... (ModelSummary::format), or "built-in"
  Model model;
  PrecisionError precision_error;  // of `model` against f32
  Lease memory = {};               // of its packed bytes; of nothing where memory is not counted
};

// Packs a model and measures its precision. `kernel_name` as in Model::Create, and so are the errors; their
// messages begin with the model's name. Of `memory`, if it is given, which was taken for all that loading
// needs, the model splits off what it holds from then on; the rest is the caller's until the source is
// gone.
absl::StatusOr<std::shared_ptr<const LoadedModel>> PackModel(
    const std::string& name, const std::string& version, const std::string& layout, const ModelConfig& config,
    const ParameterSource& source, const std::string& kernel_name, Lease* memory = nullptr);

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_MODELS_LOADED_MODEL_H_
