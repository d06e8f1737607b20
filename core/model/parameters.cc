// SPDX-License-Identifier: Apache-2.0
#include "core/model/parameters.h"

#include <initializer_list>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/uniform_source.h"

namespace headlight {
namespace {

absl::Status CheckMatrix(const std::string& name, const std::vector<float>& tensor, int64_t rows,
                         int64_t cols) {
  const auto got = static_cast<int64_t>(tensor.size());
  if (got == rows * cols) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": got ", got, " elements, wanted ", rows * cols,
                                                 " of shape [", rows, ", ", cols, "]"));
}

absl::Status CheckVector(const std::string& name, const std::vector<float>& tensor, int64_t size) {
  const auto got = static_cast<int64_t>(tensor.size());
  if (got == size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": got ", got, " elements, wanted ", size, " of shape [", size, "]"));
}

absl::Status CheckBias(const std::string& name, const std::vector<float>& tensor, int64_t size) {
  return tensor.empty() ? absl::OkStatus() : CheckVector(name, tensor, size);
}

absl::Status CheckFeedForward(const std::string& name, const FeedForwardParameters& weights,
                              const FeedForwardConfig& config, int64_t embed_dim) {
  const int64_t hidden_dim = config.hidden_dim;
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix(absl::StrCat(name, ".up"), weights.up, embed_dim, hidden_dim));
  HEADLIGHT_RETURN_IF_ERROR(CheckBias(absl::StrCat(name, ".up_bias"), weights.up_bias, hidden_dim));
  HEADLIGHT_RETURN_IF_ERROR(
      CheckMatrix(absl::StrCat(name, ".gate"), weights.gate, config.gated ? embed_dim : 0, hidden_dim));
  HEADLIGHT_RETURN_IF_ERROR(
      CheckBias(absl::StrCat(name, ".gate_bias"), weights.gate_bias, config.gated ? hidden_dim : 0));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix(absl::StrCat(name, ".down"), weights.down, hidden_dim, embed_dim));
  return CheckBias(absl::StrCat(name, ".down_bias"), weights.down_bias, embed_dim);
}

absl::Status CheckNoNorm(const std::string& name, const NormParameters& norm) {
  HEADLIGHT_RETURN_IF_ERROR(CheckVector(absl::StrCat(name, ".gain"), norm.gain, 0));
  return CheckVector(absl::StrCat(name, ".bias"), norm.bias, 0);
}

absl::Status CheckBlock(const std::string& name, const BlockParameters& weights, const BlockConfig& config) {
  if (absl::Status status = weights.attention.Validate(config.attention); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ".attention.", std::string(status.message())));
  }
  if (config.norm_placement == NormPlacement::kNone) return absl::OkStatus();
  const int64_t embed_dim = config.attention.embed_dim;
  if (config.attention_norm) {
    HEADLIGHT_RETURN_IF_ERROR(ValidateNorm(absl::StrCat(name, ".attention_norm"), weights.attention_norm,
                                           config.norm_kind, embed_dim));
  } else {
    HEADLIGHT_RETURN_IF_ERROR(CheckNoNorm(absl::StrCat(name, ".attention_norm"), weights.attention_norm));
  }
  HEADLIGHT_RETURN_IF_ERROR(ValidateNorm(absl::StrCat(name, ".feed_forward_norm"), weights.feed_forward_norm,
                                         config.norm_kind, embed_dim));
  for (const auto& [field, norm] :
       {std::pair(".attention_output_norm", &weights.attention_output_norm),
        std::pair(".feed_forward_output_norm", &weights.feed_forward_output_norm)}) {
    const std::string norm_name = name + field;
    HEADLIGHT_RETURN_IF_ERROR(config.norm_placement == NormPlacement::kSandwich
                                  ? ValidateNorm(norm_name, *norm, config.norm_kind, embed_dim)
                                  : CheckNoNorm(norm_name, *norm));
  }
  return CheckFeedForward(absl::StrCat(name, ".feed_forward"), weights.feed_forward, config.feed_forward,
                          embed_dim);
}

absl::Status CheckEmbedding(const EmbeddingParameters& weights, const EmbeddingConfig& config,
                            int64_t embed_dim) {
  const int64_t dim = config.dim;
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("embedding.tokens", weights.tokens, config.vocab_size, dim));
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("embedding.positions", weights.positions, config.num_positions, dim));
  HEADLIGHT_RETURN_IF_ERROR(
      CheckMatrix("embedding.token_types", weights.token_types, config.num_token_types, dim));
  const int64_t projected = config.projected ? dim : 0;
  HEADLIGHT_RETURN_IF_ERROR(CheckMatrix("embedding.projection", weights.projection, projected, embed_dim));
  HEADLIGHT_RETURN_IF_ERROR(
      CheckBias("embedding.projection_bias", weights.projection_bias, projected == 0 ? 0 : embed_dim));
  if (!config.norm) return absl::OkStatus();
  return ValidateNorm("embedding.norm", weights.norm, NormKind::kLayerNorm, dim);
}

absl::Status CheckHeads(const ModelParameters& parameters, const ModelConfig& config) {
  const std::vector<HeadConfig>& heads = config.heads.heads;
  if (parameters.heads.size() != heads.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("heads: got ", parameters.heads.size(), ", wanted ", heads.size()));
  }
  for (size_t i = 0; i < heads.size(); ++i) {
    HEADLIGHT_ASSIGN_OR_RETURN(const HeadTables tables, parameters.Head(static_cast<int64_t>(i)));
    HEADLIGHT_RETURN_IF_ERROR(
        ValidateHead(absl::StrCat("heads.", i), heads[i], config.block.attention.embed_dim, tables));
  }
  return absl::OkStatus();
}

int64_t Count(std::initializer_list<const std::vector<float>*> tensors) {
  int64_t count = 0;
  for (const std::vector<float>* tensor : tensors) count += static_cast<int64_t>(tensor->size());
  return count;
}

// As BERT and GPT-2 begin: a standard deviation of 0.02, which sqrt(3) times as much is the bound of.
constexpr float kEmbeddingBound = 0.0346f;
constexpr uint64_t kLayerStride = 0x9e3779b97f4a7c15;  // distance of the layers' seeds
constexpr uint64_t kRestSeed = 0x6a09e667f3bcc909;     // sets everything but attention apart
constexpr uint64_t kStepsSeed = 0xbb67ae8584caa73b;    // and heads from both

NormParameters RandomNorm(int64_t embed_dim, bool with_bias, UniformSource& source) {
  NormParameters norm;
  norm.gain = source.Draw(embed_dim, kGainBound);
  for (float& gain : norm.gain) gain += 1.0f;
  if (with_bias) norm.bias = source.Draw(embed_dim, kBiasBound);
  return norm;
}

FeedForwardParameters RandomFeedForward(const FeedForwardConfig& config, int64_t embed_dim,
                                        UniformSource& source) {
  const float bound = XavierBound(embed_dim, config.hidden_dim);
  FeedForwardParameters weights;
  weights.up = source.Draw(embed_dim * config.hidden_dim, bound);
  weights.up_bias = source.Draw(config.hidden_dim, kBiasBound);
  if (config.gated) {
    weights.gate = source.Draw(embed_dim * config.hidden_dim, bound);
    weights.gate_bias = source.Draw(config.hidden_dim, kBiasBound);
  }
  weights.down = source.Draw(config.hidden_dim * embed_dim, bound);
  weights.down_bias = source.Draw(embed_dim, kBiasBound);
  return weights;
}

}  // namespace

absl::Status ValidateNorm(const std::string& name, const NormParameters& norm, NormKind kind,
                          int64_t embed_dim) {
  HEADLIGHT_RETURN_IF_ERROR(CheckVector(absl::StrCat(name, ".gain"), norm.gain, embed_dim));
  if (kind == NormKind::kRmsNorm) return CheckVector(absl::StrCat(name, ".bias"), norm.bias, 0);
  return CheckBias(absl::StrCat(name, ".bias"), norm.bias, embed_dim);
}

absl::Status ValidateLayer(const ModelConfig& config, int64_t layer, const BlockParameters& parameters) {
  return CheckBlock(absl::StrCat("layers.", layer), parameters, config.LayerBlock(layer));
}

absl::Status ModelParameters::Validate(const ModelConfig& config) const {
  const int64_t embed_dim = config.block.attention.embed_dim;
  if (config.embedding) HEADLIGHT_RETURN_IF_ERROR(CheckEmbedding(embedding, *config.embedding, embed_dim));
  if (static_cast<int64_t>(layers.size()) != config.num_layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("layers: got ", layers.size(), ", wanted num_layers ", config.num_layers));
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (config.ParametersOf(i) == i) HEADLIGHT_RETURN_IF_ERROR(ValidateLayer(config, i, layers[i]));
  }
  HEADLIGHT_RETURN_IF_ERROR(ValidateSteps("pooled_steps", config.pooled_steps, pooled_steps));
  HEADLIGHT_RETURN_IF_ERROR(CheckHeads(*this, config));
  if (!config.final_norm) return absl::OkStatus();
  return ValidateNorm("final_norm", final_norm, *config.final_norm_kind, embed_dim);
}

int64_t ModelParameters::NumParameters() const {
  int64_t count = Count({&embedding.tokens, &embedding.positions, &embedding.token_types,
                         &embedding.norm.gain, &embedding.norm.bias, &embedding.projection,
                         &embedding.projection_bias, &final_norm.gain, &final_norm.bias});
  for (const BlockParameters& layer : layers) {
    const FeedForwardParameters& feed_forward = layer.feed_forward;
    count +=
        layer.attention.NumParameters() +
        Count({&layer.attention_norm.gain, &layer.attention_norm.bias, &layer.feed_forward_norm.gain,
               &layer.feed_forward_norm.bias, &layer.attention_output_norm.gain,
               &layer.attention_output_norm.bias, &layer.feed_forward_output_norm.gain,
               &layer.feed_forward_output_norm.bias, &feed_forward.up, &feed_forward.up_bias,
               &feed_forward.gate, &feed_forward.gate_bias, &feed_forward.down, &feed_forward.down_bias});
  }
  count += headlight::NumParameters(pooled_steps);
  for (const HeadParameters& head : heads) {
    count += headlight::NumParameters(head.steps) + Count({&head.vocab, &head.vocab_bias});
  }
  return count;
}

absl::StatusOr<HeadTables> ModelParameters::Head(int64_t place) const {
  const HeadParameters& head = heads[place];
  HeadTables tables{.steps = head.steps, .vocab = {}, .vocab_bias = head.vocab_bias};
  HEADLIGHT_ASSIGN_OR_RETURN(tables.vocab,
                             EmbeddingTable::Copy(DType::kF32, head.vocab.data(), std::ssize(head.vocab)));
  return tables;
}

absl::StatusOr<EmbeddingTables> ModelParameters::Embedding() const {
  EmbeddingTables tables;
  for (const auto& [from, to] :
       {std::pair(&embedding.tokens, &tables.tokens), std::pair(&embedding.positions, &tables.positions),
        std::pair(&embedding.token_types, &tables.token_types)}) {
    HEADLIGHT_ASSIGN_OR_RETURN(
        *to, EmbeddingTable::Copy(DType::kF32, from->data(), static_cast<int64_t>(from->size())));
  }
  tables.norm = embedding.norm;
  tables.projection = embedding.projection;
  tables.projection_bias = embedding.projection_bias;
  return tables;
}

absl::StatusOr<const BlockParameters*> ModelParameters::Layer(int64_t layer,
                                                              BlockParameters& /*memory*/) const {
  return &layers[layer];
}

ModelParameters RandomModelParameters(const ModelConfig& config, uint64_t seed) {
  const int64_t embed_dim = config.block.attention.embed_dim;
  UniformSource source(seed ^ kRestSeed);
  // The order of these lines is part of what a seed means.
  ModelParameters weights;
  if (config.embedding) {
    const EmbeddingConfig& embedding = *config.embedding;
    weights.embedding.tokens = source.Draw(embedding.vocab_size * embedding.dim, kEmbeddingBound);
    weights.embedding.positions = source.Draw(embedding.num_positions * embedding.dim, kEmbeddingBound);
    weights.embedding.token_types = source.Draw(embedding.num_token_types * embedding.dim, kEmbeddingBound);
    if (embedding.norm) weights.embedding.norm = RandomNorm(embedding.dim, /*with_bias=*/true, source);
    if (embedding.projected) {
      weights.embedding.projection =
          source.Draw(embedding.dim * embed_dim, XavierBound(embedding.dim, embed_dim));
      weights.embedding.projection_bias = source.Draw(embed_dim, kBiasBound);
    }
  }
  weights.layers.resize(config.num_layers);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    BlockParameters& layer = weights.layers[i];
    const BlockConfig& block = config.LayerBlock(i);
    if (config.ParametersOf(i) != i) continue;
    layer.attention = RandomParameters(block.attention, seed + static_cast<uint64_t>(i) * kLayerStride);
    if (block.norm_placement == NormPlacement::kNone) continue;
    const bool norm_bias = block.norm_kind == NormKind::kLayerNorm;
    if (block.attention_norm) layer.attention_norm = RandomNorm(embed_dim, norm_bias, source);
    layer.feed_forward_norm = RandomNorm(embed_dim, norm_bias, source);
    layer.feed_forward = RandomFeedForward(block.feed_forward, embed_dim, source);
    if (block.norm_placement != NormPlacement::kSandwich) continue;
    layer.attention_output_norm = RandomNorm(embed_dim, norm_bias, source);
    layer.feed_forward_output_norm = RandomNorm(embed_dim, norm_bias, source);
  }
  const bool norm_bias = config.final_norm_kind == NormKind::kLayerNorm;
  if (config.final_norm) weights.final_norm = RandomNorm(embed_dim, norm_bias, source);
  weights.pooled_steps = RandomSteps(config.pooled_steps, seed ^ kStepsSeed);
  for (size_t i = 0; i < config.heads.heads.size(); ++i) {
    weights.heads.push_back(RandomHead(config.heads.heads[i], embed_dim, (seed ^ kStepsSeed) + i + 1));
  }
  return weights;
}

}  // namespace headlight
