// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/folder.h"

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/atomic_file.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/config_fields.h"
#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/formats/huggingface.h"
#include "core/checkpoint/formats/native.h"
#include "core/checkpoint/formats/native_config.h"
#include "core/checkpoint/safetensors_writer.h"
#include "core/checkpoint/shards.h"
#include "core/checkpoint/tensor_plan.h"

namespace headlight {
namespace {

// Errors begin with the folder, once.
absl::Status InFolder(const std::string& folder, const std::string& file, const absl::Status& status) {
  if (status.ok() || absl::StartsWith(status.message(), folder)) return status;
  return absl::Status(status.code(),
                      absl::StrCat(folder, file.empty() ? "" : "/", file, ": ", status.message()));
}

// Everything that is known before tensors are read. The plan points into `weights`, which are on the heap and
// so stay where they are.
struct OpenFolder {
  Shards checkpoint;
  ModelSummary summary;
  std::unique_ptr<ModelParameters> weights;
  TensorPlan plan;
};

absl::StatusOr<Format> MakeFormat(ConfigFields fields, const Shards& checkpoint) {
  HEADLIGHT_ASSIGN_OR_RETURN(Format format, ReadFormat(fields, checkpoint));
  if (format.precision) format.config.block.attention.precision = *format.precision;
  HEADLIGHT_RETURN_IF_ERROR(format.config.Validate());
  format.config = format.config.Resolved();
  return format;
}

absl::StatusOr<OpenFolder> Open(const std::string& folder) {
  // The config first: without it the folder is no model, whatever else lies in it.
  HEADLIGHT_ASSIGN_OR_RETURN(ConfigFields fields, ConfigFields::Read(folder + "/config.json"));
  absl::StatusOr<Shards> checkpoint = Shards::Open(folder);
  if (!checkpoint.ok()) return InFolder(folder, "", checkpoint.status());
  absl::StatusOr<Format> format = MakeFormat(std::move(fields), *checkpoint);
  if (!format.ok()) return InFolder(folder, "config.json", format.status());
  const bool own = format->name == "native" || absl::StartsWith(format->name, "torch.");
  if (!own) HEADLIGHT_RETURN_IF_ERROR(InFolder(folder, "", ReadSentenceTransformers(folder, format->config)));

  OpenFolder open{.checkpoint = *std::move(checkpoint), .weights = std::make_unique<ModelParameters>()};
  open.weights->layers.resize(format->config.num_layers);
  open.plan = format->plan(format->config, *open.weights);
  HEADLIGHT_RETURN_IF_ERROR(InFolder(folder, "", CheckPlan(open.plan, open.checkpoint)));
  open.summary = {.format = format->name,
                  .config = format->config,
                  .precision = format->precision,
                  .num_parameters = NumPlannedElements(open.plan, open.checkpoint),
                  .ignored_tensors = IgnoredTensors(open.plan, open.checkpoint)};
  return open;
}

}  // namespace

absl::StatusOr<ModelSummary> InspectModelFolder(const std::string& folder) {
  HEADLIGHT_ASSIGN_OR_RETURN(OpenFolder open, Open(folder));
  return std::move(open.summary);
}

absl::StatusOr<LoadedModelFolder> LoadModelFolder(const std::string& folder) {
  HEADLIGHT_ASSIGN_OR_RETURN(OpenFolder open, Open(folder));
  HEADLIGHT_RETURN_IF_ERROR(InFolder(folder, "", LoadPlan(open.plan, open.checkpoint)));
  HEADLIGHT_RETURN_IF_ERROR(InFolder(folder, "", open.weights->Validate(open.summary.config)));
  return LoadedModelFolder{.summary = std::move(open.summary), .weights = std::move(*open.weights)};
}

absl::Status SaveModelFolder(const std::string& folder, const ModelConfig& config,
                             const ModelParameters& weights, bool with_precision) {
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  const ModelConfig resolved = config.Resolved();
  HEADLIGHT_RETURN_IF_ERROR(weights.Validate(resolved));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::InternalError(absl::StrCat(folder, ": cannot be made: ", error.message()));
  const std::string config_path = folder + "/config.json";
  if (std::filesystem::exists(config_path, error)) {
    return absl::AlreadyExistsError(absl::StrCat(config_path, ": there is a model already"));
  }
  // The config last: a folder that has it is complete.
  HEADLIGHT_RETURN_IF_ERROR(
      WriteSafetensors(folder + "/model.safetensors", NativeTensors(resolved, weights), {{"format", "pt"}}));
  return WriteFileAtomically(config_path, NativeConfigText(resolved, with_precision));
}

}  // namespace headlight
