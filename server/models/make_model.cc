// SPDX-License-Identifier: Apache-2.0
#include "server/models/make_model.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "core/base/text.h"
#include "core/checkpoint/folder.h"
#include "core/checkpoint/memory_estimate.h"
#include "core/model/parameter_source.h"
#include "server/models/model_memory.h"

namespace headlight {
namespace {

absl::Status CheckNotCancelled(const CancellationToken& cancelled) {
  return cancelled.IsCancelled() ? absl::CancelledError("loading was abandoned") : absl::OkStatus();
}

// The parameters of a folder for as long as somebody waits for the model.
class UntilCancelled final : public ParameterSource {
 public:
  UntilCancelled(const ParameterSource& source, const CancellationToken& cancelled)
      : source_(source), cancelled_(cancelled) {}

  absl::Status Validate(const ModelConfig& config) const override { return source_.Validate(config); }
  int64_t NumParameters() const override { return source_.NumParameters(); }
  absl::StatusOr<EmbeddingTables> Embedding() const override {
    HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled_));
    return source_.Embedding();
  }
  absl::StatusOr<const BlockParameters*> Layer(int64_t layer, BlockParameters& memory) const override {
    HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled_));
    return source_.Layer(layer, memory);
  }
  absl::StatusOr<NormParameters> FinalNorm() const override { return source_.FinalNorm(); }
  absl::StatusOr<std::vector<RowStepParameters>> PooledSteps() const override {
    return source_.PooledSteps();
  }
  absl::StatusOr<HeadTables> Head(int64_t place) const override {
    HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled_));
    return source_.Head(place);
  }

 private:
  const ParameterSource& source_;
  const CancellationToken& cancelled_;
};

// `option` is that of the choice.
void WarnIfOverruled(const char* option, const PrecisionChoice& choice, const std::string& name,
                     std::optional<Precision> asked_by_config) {
  const std::optional<Precision> overruled = choice.Overruled(name, asked_by_config);
  if (!overruled) return;
  spdlog::warn(
      "model {}: its config.json asks for {}, which goes before {} {}; {} {}={} would go before both", name,
      Name(*asked_by_config), option, Name(*overruled), option, name, Name(*overruled));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const LoadedModel>> MakeModelFromFolder(const FolderModelOptions& options,
                                                                       const ModelSource& source,
                                                                       const CancellationToken& cancelled) {
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  HEADLIGHT_ASSIGN_OR_RETURN(const std::unique_ptr<const ModelFolder> folder,
                             ModelFolder::Open(source.version.folder));
  // Before anything is touched that a shutdown takes away: files may have been out of reach for long.
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  const ModelSummary& summary = folder->summary();
  if (options.strict) HEADLIGHT_RETURN_IF_ERROR(CheckUnderstood(summary));
  if (!summary.not_understood.empty()) {
    spdlog::warn("model {} version {}: its config.json has keys that are not understood: {}", source.name,
                 source.version.version, Listed(summary.not_understood));
  }
  WarnIfOverruled("--precision", options.precision, source.name, summary.precision);
  WarnIfOverruled("--parameters-precision", options.parameters_precision, source.name,
                  summary.parameters_precision);
  ModelConfig config = summary.config;
  config.SetPrecision(options.precision.Of(source.name, summary.precision));
  config.SetParametersPrecision(options.parameters_precision.Of(source.name, summary.parameters_precision));
  if (const auto asked = options.pooling.find(source.name); asked != options.pooling.end()) {
    config.pooling = asked->second;
    config.no_pooling.clear();
  }
  HEADLIGHT_ASSIGN_OR_RETURN(Lease memory,
                             ReserveForLoading(EstimateMemory(config, summary.table_dtype), options.memory));
  HEADLIGHT_ASSIGN_OR_RETURN(auto model,
                             PackModel(source.name, source.version.version, summary.format, config,
                                       UntilCancelled(*folder, cancelled), options.kernel, &memory));
  // Last, because a load that has hung may outlive those who wanted the model.
  HEADLIGHT_RETURN_IF_ERROR(CheckNotCancelled(cancelled));
  return model;
}

}  // namespace headlight
