// SPDX-License-Identifier: Apache-2.0
#include "server/models/loaded_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace headlight {

absl::StatusOr<std::shared_ptr<const LoadedModel>> PackModel(
    const std::string& name, const std::string& version, const std::string& layout, const ModelConfig& config,
    const ParameterSource& source, const std::string& kernel_name, Lease* memory) {
  const auto named = [&](const absl::Status& status) {
    if (absl::StartsWith(status.message(), absl::StrCat(name, ": "))) return status;  // named by its folder
    return absl::Status(status.code(), absl::StrCat("model ", name, ": ", std::string(status.message())));
  };
  absl::StatusOr<Model> model = Model::Create(config, source, kernel_name);
  if (!model.ok()) return named(model.status());
  const absl::StatusOr<PrecisionError> error = MeasurePrecisionError(*model, source);
  if (!error.ok()) return named(error.status());
  Lease own;
  if (memory != nullptr) own = memory->Split(std::min(memory->bytes(), model->packed_bytes()));
  return std::make_shared<const LoadedModel>(
      LoadedModel{name, version, layout, *std::move(model), *error, std::move(own)});
}

}  // namespace headlight
