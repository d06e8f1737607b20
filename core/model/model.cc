// SPDX-License-Identifier: Apache-2.0
#include "core/model/model.h"

#include <utility>
#include <vector>

#include "core/base/catch_exceptions.h"
#include "core/base/status_macros.h"
#include "core/model/model_impl.h"

namespace headlight {

Model::Model(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

absl::StatusOr<Model> Model::Create(const ModelConfig& config, const ModelParameters& weights,
                                    const std::string& kernel_name) {
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  const ModelConfig resolved = config.Resolved();
  HEADLIGHT_RETURN_IF_ERROR(weights.Validate(resolved));
  return Pack(resolved, weights, 0, kernel_name);
}

absl::StatusOr<Model> Model::CreateLayer(const ModelConfig& config, const ModelParameters& weights,
                                         int64_t layer, const std::string& kernel_name) {
  ModelConfig alone = config;
  alone.embedding.reset();
  alone.num_layers = 1;
  alone.block.attention = config.LayerAttention(layer);
  alone.scale_by_inverse_layer = false;  // done
  alone.final_norm = config.final_norm && layer + 1 == config.num_layers;
  return Pack(alone, weights, layer, kernel_name);
}

absl::StatusOr<Model> Model::Pack(const ModelConfig& config, const ModelParameters& weights, int64_t first_layer,
                                  const std::string& kernel_name) {
  std::unique_ptr<const Impl> impl;
  HEADLIGHT_ASSIGN_OR_RETURN(
      const Arithmetic arithmetic,
      ChooseArithmetic(config.block.attention.precision, config.LargestDepth(), kernel_name));
  HEADLIGHT_RETURN_IF_ERROR(CatchExceptions("packing the model", [&]() -> absl::Status {
    std::shared_ptr<const RopeTable> rope;
    if (config.block.attention.rope) rope = std::make_shared<const RopeTable>(*config.block.attention.rope);
    std::vector<AttentionLayer> attention;
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      HEADLIGHT_ASSIGN_OR_RETURN(
          AttentionLayer packed,
          AttentionLayer::Create(config.LayerAttention(layer),
                                     weights.layers[first_layer + layer].attention, arithmetic, rope));
      attention.push_back(std::move(packed));
    }
    impl = std::make_unique<const Impl>(config, arithmetic, weights, first_layer, std::move(attention), rope);
    return absl::OkStatus();
  }));
  return Model(std::move(impl));
}

void Model::Embed(std::span<const int32_t> token_ids, std::span<const int64_t> cu_lens,
                  MutableMatrixView out) const {
  std::vector<int32_t> positions;
  impl_->embedding()->FindPositions(token_ids, cu_lens, positions);
  impl_->embedding()->Lookup(token_ids, {}, positions, 0, out);
}

const ModelConfig& Model::config() const { return impl_->config(); }
const AttentionLayer& Model::attention(int64_t layer) const { return impl_->attention(layer); }
int64_t Model::num_parameters() const { return impl_->num_parameters(); }
int64_t Model::packed_bytes() const { return impl_->packed_bytes(); }

std::unique_ptr<ModelWorkspace> Model::NewWorkspace(const ComputeArena& arena) {
  auto workspace = std::make_unique<ForwardWorkspace>();
  workspace->attention = AttentionLayer::NewWorkspace(arena);
  workspace->rows.resize(arena.num_threads());
  workspace->scratch.resize(arena.num_threads());
  return workspace;
}

absl::Status Model::Forward(const ModelBatch& batch, ComputeArena& arena, ModelWorkspace& workspace) const {
  return CatchExceptions("the model", [&] {
    absl::Status status;
    arena.Within([&] { status = impl_->Forward(batch, arena, static_cast<ForwardWorkspace&>(workspace)); });
    return status;
  });
}

Model::Impl::Impl(const ModelConfig& config, const Arithmetic& arithmetic, const ModelParameters& weights,
                  int64_t first_layer, std::vector<AttentionLayer> attention,
                  std::shared_ptr<const RopeTable> rope)
    : config_(config),
      num_parameters_(weights.NumParameters()),
      rope_(std::move(rope)),
      final_norm_(weights.final_norm) {
  if (config_.embedding) {
    embedding_.emplace(*config_.embedding, width(), config_.block.norm_eps, weights.embedding);
  }
  if (!IsBare()) {
    feed_forward_.emplace(arithmetic, config_.block.feed_forward, width());
    storage_.emplace(feed_forward_->StorageBytes() * config_.num_layers);
  }
  for (int64_t i = 0; i < config_.num_layers; ++i) {
    const BlockParameters& from = weights.layers[first_layer + i];
    ModelLayer layer{std::move(attention[i]), {}, {}, {}};
    if (!IsBare()) {
      layer.attention_norm = from.attention_norm;
      layer.feed_forward_norm = from.feed_forward_norm;
      layer.feed_forward.emplace(feed_forward_->Pack(from.feed_forward, *storage_));
    }
    layers_.push_back(std::move(layer));
  }
}

int64_t Model::Impl::packed_bytes() const {
  int64_t bytes = storage_ ? storage_->size_bytes() : 0;
  if (embedding_) bytes += embedding_->size_bytes();
  if (rope_ != nullptr) bytes += rope_->size_bytes();
  for (const ModelLayer& layer : layers_) bytes += layer.attention.packed_bytes();
  return bytes;
}

}  // namespace headlight
