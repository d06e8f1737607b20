// SPDX-License-Identifier: Apache-2.0
#include "core/attention/layer.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/catch_exceptions.h"
#include "core/base/status_macros.h"
#include "core/simd/targets.h"

namespace headlight {
namespace {

absl::Status CheckKernelName(const std::string& name) {
  std::vector<std::string> names;
  for (const KernelEntry& entry : KernelTable()) {
    if (name.empty() || name == entry.name) return absl::OkStatus();
    names.emplace_back(entry.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("kernel: got '", name, "', wanted one of: ", absl::StrJoin(names, ", ")));
}

// The first kernel of the table that has the wanted name (any, if empty) and accepts the layer.
absl::StatusOr<const KernelEntry*> ChooseKernel(const std::string& name, const AttentionConfig& config) {
  std::vector<std::string> refusals;
  for (const KernelEntry& entry : KernelTable()) {
    if (!name.empty() && name != entry.name) continue;
    absl::Status accepted = entry.Accepts(config);
    // Whoever names a kernel wants it even where another precision would be faster.
    if (accepted.ok() && name.empty()) accepted = entry.Pays(config);
    if (accepted.ok()) return &entry;
    refusals.push_back(absl::StrCat(entry.name, ": ", std::string(accepted.message())));
  }
  return absl::UnimplementedError(absl::StrCat("no kernel takes this layer in ", Name(config.precision), " (",
                                               absl::StrJoin(refusals, "; "), ")"));
}

}  // namespace

AttentionLayer::AttentionLayer(AttentionConfig config, int64_t num_parameters,
                                       std::unique_ptr<const AttentionKernel> kernel,
                                       std::string precision_note)
    : config_(std::move(config)),
      num_parameters_(num_parameters),
      kernel_(std::move(kernel)),
      precision_note_(std::move(precision_note)) {}

absl::StatusOr<AttentionLayer> AttentionLayer::Create(const AttentionConfig& config,
                                                              const AttentionParameters& weights,
                                                              const std::string& kernel_name) {
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  const AttentionConfig resolved = config.Resolved();
  HEADLIGHT_RETURN_IF_ERROR(weights.Validate(resolved));
  MatchSimdToOneDnn();
  HEADLIGHT_RETURN_IF_ERROR(CheckKernelName(kernel_name));
  AttentionConfig computed = resolved;  // in the precision that is possible
  absl::StatusOr<const KernelEntry*> entry = ChooseKernel(kernel_name, computed);
  std::string note;
  if (!entry.ok() && computed.precision != Precision::kF32) {
    note = absl::StrCat("computed in f32: ", std::string(entry.status().message()));
    computed.precision = Precision::kF32;
    entry = ChooseKernel(kernel_name, computed);
  }
  HEADLIGHT_RETURN_IF_ERROR(entry.status());
  std::unique_ptr<const AttentionKernel> kernel;
  HEADLIGHT_RETURN_IF_ERROR(CatchExceptions("attention kernel", [&] {
    kernel = (*entry)->Create(computed, weights);
    return absl::OkStatus();
  }));
  return AttentionLayer(resolved, weights.NumParameters(), std::move(kernel), std::move(note));
}

std::string AttentionLayer::IsaName() {
  MatchSimdToOneDnn();
  return SimdTargetName();
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
