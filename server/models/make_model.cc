// SPDX-License-Identifier: Apache-2.0
#include "server/models/make_model.h"

#include <spdlog/spdlog.h>

#include <optional>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/folder.h"
#include "server/models/model_memory.h"

namespace headlight {
namespace {

absl::Status CheckNotCancelled(const CancellationToken& cancelled) {
  return cancelled.IsCancelled() ? absl::CancelledError("loading was abandoned") : absl::OkStatus();
}

void WarnIfOverruled(const PrecisionChoice& choice, const std::string& name,
                     std::optional<Precision> asked_by_config) {
  const std::optional<Precision> overruled = choice.Overruled(name, asked_by_config);
  if (!overruled) return;
  spdlog::warn(
      "model {}: its config.json asks for {}, which goes before --precision {}; --precision {}={} would go "
      "before both",
      name, Name(*asked_by_config), Name(*overruled), name, Name(*overruled));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeModelFromFolder(const FolderModelOptions& options,
                                                                       const ModelSource& source,
                                                                       const CancellationToken& cancelled) {
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  const auto with_precision = [&](const ModelSummary& summary) {
    ModelConfig config = summary.config;
    config.block.attention.precision = options.precision.Of(source.name, summary.precision);
    return config;
  };
  HEADLIGHT_ASSIGN_OR_RETURN(const ModelSummary summary, InspectModelFolder(source.version.folder));
  // Before anything is touched that a shutdown takes away: files may have been out of reach for long.
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  WarnIfOverruled(options.precision, source.name, summary.precision);
  HEADLIGHT_ASSIGN_OR_RETURN(Lease memory, ReserveForLoading(with_precision(summary), options.memory));
  HEADLIGHT_ASSIGN_OR_RETURN(const LoadedModelFolder folder, LoadModelFolder(source.version.folder));
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  HEADLIGHT_ASSIGN_OR_RETURN(
      auto model, PackModel(source.name, source.version.version, folder.summary.format,
                            with_precision(folder.summary), folder.weights, options.kernel, &memory));
  // Last, because a load that has hung may outlive those who wanted the model.
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  return model;
}

}  // namespace headlight
