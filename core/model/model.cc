// SPDX-License-Identifier: Apache-2.0
#include "core/model/model.h"

#include <algorithm>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "core/attention/rope_table.h"
#include "core/base/catch_exceptions.h"
#include "core/base/status_macros.h"
#include "core/model/model_impl.h"
#include "core/runtime/cpu_placement.h"

namespace headlight {
namespace {

// A thread more than who loads has: it goes behind those that compute, which another model's requests may
// need.
constexpr int kReadingNice = 10;

// The tables of a small model are half of what is to be read: beside its layers, on a thread of its own, or
// else when it is asked for where the system has no thread left. Nothing without an embedding.
std::future<absl::StatusOr<EmbeddingTables>> ReadEmbedding(const ModelConfig& config,
                                                           const ParameterSource& source) {
  if (!config.embedding) return {};
  return std::async(std::launch::async | std::launch::deferred,
                    [&source, caller = std::this_thread::get_id()] {
                      if (std::this_thread::get_id() != caller) StepBack(kReadingNice);
                      return source.Embedding();
                    });
}

}  // namespace

Model::Model(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

absl::StatusOr<Model> Model::Create(const ModelConfig& config, const ParameterSource& source,
                                    const std::string& kernel_name) {
  HEADLIGHT_RETURN_IF_ERROR(config.Validate());
  const ModelConfig resolved = config.Resolved();
  HEADLIGHT_RETURN_IF_ERROR(source.Validate(resolved));
  BlockParameters memory;
  return Pack(resolved, resolved.LargestDepth(), source, 0, memory, kernel_name);
}

absl::StatusOr<Model> Model::CreateLayer(const ModelConfig& config, const ParameterSource& source,
                                         int64_t layer, BlockParameters& memory,
                                         const std::string& kernel_name) {
  ModelConfig alone = config;
  alone.embedding.reset();
  alone.pooled_steps.clear();
  alone.heads = {};
  alone.num_layers = 1;
  BlockConfig block = config.LayerBlock(layer);
  block.attention = config.LayerAttention(layer);
  alone.other_blocks = {std::move(block)};  // beside `block`, which the final norm follows
  alone.layer_blocks = {1};
  alone.layer_parameters.clear();
  alone.scale_by_inverse_layer = false;  // done
  alone.final_norm = config.final_norm && layer + 1 == config.num_layers;
  return Pack(alone, config.LargestDepth(), source, config.ParametersOf(layer), memory, kernel_name);
}

absl::StatusOr<Model> Model::Pack(const ModelConfig& config, int64_t depth, const ParameterSource& source,
                                  int64_t first_layer, BlockParameters& memory,
                                  const std::string& kernel_name) {
  HEADLIGHT_ASSIGN_OR_RETURN(Arithmetic arithmetic,
                             ChooseArithmetic(config.block.attention.precision, depth, kernel_name,
                                              config.block.attention.parameters_precision));
  std::unique_ptr<Impl> impl;
  HEADLIGHT_RETURN_IF_ERROR(CatchExceptions("packing the model", [&]() -> absl::Status {
    impl = std::make_unique<Impl>(config, std::move(arithmetic), source.NumParameters());
    std::future<absl::StatusOr<EmbeddingTables>> embedding = ReadEmbedding(config, source);
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      if (config.ParametersOf(layer) != layer) continue;
      HEADLIGHT_ASSIGN_OR_RETURN(const BlockParameters* const block,
                                 source.Layer(first_layer + layer, memory));
      HEADLIGHT_RETURN_IF_ERROR(impl->AddLayer(layer, *block));
    }
    if (config.embedding) {
      HEADLIGHT_ASSIGN_OR_RETURN(EmbeddingTables tables, embedding.get());
      impl->SetEmbedding(std::move(tables));
    }
    if (config.final_norm) {
      HEADLIGHT_ASSIGN_OR_RETURN(NormParameters norm, source.FinalNorm());
      impl->SetFinalNorm(std::move(norm));
    }
    const EmbeddingTable* const tokens = config.embedding ? &impl->embedding()->tokens() : nullptr;
    HEADLIGHT_ASSIGN_OR_RETURN(auto heads, ModelHeads::Create(config, source, tokens, kernel_name));
    impl->SetHeads(std::move(heads));
    return absl::OkStatus();
  }));
  return Model(std::move(impl));
}

const ModelHeads& Model::heads() const { return impl_->heads(); }

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

Model::Impl::Impl(const ModelConfig& config, Arithmetic arithmetic, int64_t num_parameters)
    : config_(config), arithmetic_(std::move(arithmetic)), num_parameters_(num_parameters) {
  layers_.reserve(config_.num_layers);
  places_.resize(config_.num_layers);
  if (IsBare()) return;
  config_.ForEachBlock([&](const BlockConfig& block, int64_t) {
    if (NetworkIndex(block.feed_forward) < networks_.size()) return;
    network_configs_.push_back(block.feed_forward);
    networks_.emplace_back(arithmetic_, block.feed_forward, width());
  });
  int64_t bytes = 0;
  config_.ForEachBlock([&](const BlockConfig& block, int64_t num_layers) {
    bytes += networks_[NetworkIndex(block.feed_forward)].StorageBytes() * num_layers;
  });
  storage_.emplace(bytes);
}

size_t Model::Impl::NetworkIndex(const FeedForwardConfig& config) const {
  return std::find(network_configs_.begin(), network_configs_.end(), config) - network_configs_.begin();
}

absl::Status Model::Impl::AddLayer(int64_t layer, const BlockParameters& from) {
  const BlockConfig& block = config_.LayerBlock(layer);
  HEADLIGHT_ASSIGN_OR_RETURN(AttentionLayer attention, AttentionLayer::Create(config_.LayerAttention(layer),
                                                                              from.attention, arithmetic_));
  if (std::find(blocks_.begin(), blocks_.end(), &block) == blocks_.end()) {
    blocks_.push_back(&block);
    if (layer > 0) other_kernels_.push_back(&attention.kernel());
  }
  ModelLayer packed{.attention = std::move(attention)};
  if (!IsBare()) {
    packed.attention_norm = from.attention_norm;
    packed.feed_forward_norm = from.feed_forward_norm;
    packed.attention_output_norm = from.attention_output_norm;
    packed.feed_forward_output_norm = from.feed_forward_output_norm;
    packed.network = NetworkIndex(block.feed_forward);
    packed.feed_forward.emplace(networks_[packed.network].Pack(from.feed_forward, *storage_));
  }
  places_[layer] = layers_.size();
  layers_.push_back(std::move(packed));
  return absl::OkStatus();
}

int64_t Model::Impl::packed_bytes() const {
  int64_t bytes = storage_ ? storage_->size_bytes() : 0;
  if (embedding_) bytes += embedding_->size_bytes();
  for (const RopeConfig& rope : config_.RopeConfigs()) bytes += RopeTable::ModelBytes(rope);
  for (const ModelLayer& layer : layers_) bytes += layer.attention.packed_bytes();
  bytes += heads_->packed_bytes();
  return bytes;
}

}  // namespace headlight
