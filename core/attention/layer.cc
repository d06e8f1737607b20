// SPDX-License-Identifier: Apache-2.0
#include "core/attention/layer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/attention/tiled/tiled_kernel.h"
#include "core/base/catch_exceptions.h"
#include "core/base/status_macros.h"
#include "core/simd/targets.h"

namespace headlight {

AttentionLayer::AttentionLayer(AttentionConfig config, int64_t num_parameters, Arithmetic arithmetic,
                               std::unique_ptr<const AttentionKernel> kernel)
    : config_(std::move(config)),
      num_parameters_(num_parameters),
      arithmetic_(std::move(arithmetic)),
      kernel_(std::move(kernel)) {}

absl::StatusOr<AttentionLayer> AttentionLayer::Create(const AttentionConfig& config,
                                                      const AttentionParameters& parameters,
                                                      const std::string& kernel_name) {
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  HEADLIGHT_ASSIGN_OR_RETURN(const Arithmetic arithmetic,
                             ChooseArithmetic(config.precision, config.Resolved().LargestDepth(), kernel_name,
                                              config.parameters_precision));
  return Create(config, parameters, arithmetic);
}

absl::StatusOr<AttentionLayer> AttentionLayer::Create(const AttentionConfig& config,
                                                      const AttentionParameters& parameters,
                                                      const Arithmetic& arithmetic) {
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  const AttentionConfig resolved = config.Resolved();
  HEADLIGHT_RETURN_IF_ERROR(parameters.Validate(resolved));
  std::unique_ptr<const AttentionKernel> kernel;
  HEADLIGHT_RETURN_IF_ERROR(CatchExceptions("attention kernel", [&] {
    kernel = MakeTiledKernel(arithmetic, resolved, parameters);
    return absl::OkStatus();
  }));
  return AttentionLayer(resolved, parameters.NumParameters(), arithmetic, std::move(kernel));
}

std::string PrecisionText(const AttentionLayer& layer) {
  const std::string text = Name(layer.precision());
  if (layer.parameters_precision() == layer.precision()) return text;
  return absl::StrCat(text, ", parameters ", Name(layer.parameters_precision()));
}

std::string AttentionLayer::IsaName() {
  MatchSimdToOneDnn();
  return SimdTargetName();
}

std::unique_ptr<Workspace> AttentionLayer::NewWorkspace(const ComputeArena& arena) {
  return std::make_unique<TiledWorkspace>(arena.num_threads());
}

absl::Status AttentionLayer::Forward(const AttentionBatch& batch, ComputeArena& arena,
                                     Workspace& workspace) const {
  HEADLIGHT_RETURN_IF_ERROR(batch.Validate(config_));
  return CatchExceptions("attention kernel", [&] {
    absl::Status status;
    arena.Within([&] { status = kernel_->Run(batch, arena, workspace); });
    return status;
  });
}

}  // namespace headlight
