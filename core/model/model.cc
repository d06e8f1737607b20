// SPDX-License-Identifier: Apache-2.0
#include "core/model/model.h"

#include <utility>
#include <vector>

#include "core/base/status_macros.h"

namespace headlight {

class Model::Impl {
 public:
  Impl(ModelConfig config, int64_t num_parameters)
      : config(std::move(config)), num_parameters(num_parameters) {}
  ModelConfig config;
  int64_t num_parameters;
  std::vector<MultiHeadAttention> layers;
};

namespace {

struct Workspaces final : ModelWorkspace {
  std::unique_ptr<Workspace> attention;
};

}  // namespace

Model::Model(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

absl::StatusOr<Model> Model::Create(const ModelConfig& config, const ModelWeights& weights,
                                    const std::string& kernel_name) {
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  const ModelConfig resolved = config.Resolved();
  HEADLIGHT_RETURN_IF_ERROR(weights.Validate(resolved));
  if (config.num_layers != 1 || config.embedding || config.block.norm_placement != NormPlacement::kNone) {
    return absl::UnimplementedError("only a single bare attention layer is computed yet");
  }
  auto impl = std::make_unique<Impl>(resolved, weights.NumParameters());
  HEADLIGHT_ASSIGN_OR_RETURN(
      MultiHeadAttention attention,
      MultiHeadAttention::Create(resolved.LayerAttention(0), weights.layers[0].attention, kernel_name));
  impl->layers.push_back(std::move(attention));
  return Model(std::move(impl));
}

const ModelConfig& Model::config() const { return impl_->config; }
const MultiHeadAttention& Model::attention(int64_t layer) const { return impl_->layers[layer]; }
int64_t Model::num_parameters() const { return impl_->num_parameters; }
int64_t Model::packed_bytes() const { return impl_->num_parameters * int64_t{sizeof(float)}; }

std::unique_ptr<ModelWorkspace> Model::NewWorkspace(const ComputeArena& arena) const {
  auto workspace = std::make_unique<Workspaces>();
  workspace->attention = impl_->layers[0].NewWorkspace(arena);
  return workspace;
}

absl::Status Model::Forward(const ModelBatch& batch, ComputeArena& arena, ModelWorkspace& workspace) const {
  return impl_->layers[0].Forward(batch.attention, arena, *static_cast<Workspaces&>(workspace).attention);
}

}  // namespace headlight
