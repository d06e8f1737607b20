// SPDX-License-Identifier: Apache-2.0
#include "core/model/reference.h"

#include <cmath>
#include <iterator>
#include <numbers>
#include <utility>

#include "core/model/heads/reference.h"

namespace headlight {
namespace {

using Matrix = std::vector<double>;  // [tokens, width]

double At(const std::vector<float>& values, int64_t i) {
  return values.empty() ? 0.0 : static_cast<double>(values[i]);
}

Matrix Norm(NormKind kind, double eps, const NormParameters& weights, Matrix x) {
  const auto width = static_cast<int64_t>(weights.gain.size());
  const auto count = static_cast<double>(width);
  for (int64_t row = 0; row < std::ssize(x); row += width) {
    double mean = 0;
    for (int64_t i = 0; i < width && kind == NormKind::kLayerNorm; ++i) mean += x[row + i] / count;
    double variance = 0;
    for (int64_t i = 0; i < width; ++i) variance += (x[row + i] - mean) * (x[row + i] - mean) / count;
    for (int64_t i = 0; i < width; ++i) {
      x[row + i] =
          (x[row + i] - mean) / std::sqrt(variance + eps) * At(weights.gain, i) + At(weights.bias, i);
    }
  }
  return x;
}

Matrix Project(const Matrix& x, int64_t in, const std::vector<float>& matrix, const std::vector<float>& bias,
               int64_t out) {
  const int64_t rows = std::ssize(x) / in;
  Matrix y(rows * out);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < out; ++col) y[row * out + col] = At(bias, col);
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t col = 0; col < out; ++col) {
        y[row * out + col] += x[row * in + i] * static_cast<double>(matrix[i * out + col]);
      }
    }
  }
  return y;
}

Matrix RunFeedForward(const FeedForwardConfig& config, int64_t embed_dim,
                      const FeedForwardParameters& weights, const Matrix& x) {
  Matrix hidden = Project(x, embed_dim, weights.up, weights.up_bias, config.hidden_dim);
  if (config.gated) {
    const Matrix gate = Project(x, embed_dim, weights.gate, weights.gate_bias, config.hidden_dim);
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] *= ReferenceActivation(config.activation, gate[i]);
  } else {
    for (double& unit : hidden) unit = ReferenceActivation(config.activation, unit);
  }
  return Project(hidden, config.hidden_dim, weights.down, weights.down_bias, embed_dim);
}

Matrix Sum(Matrix a, const Matrix& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

Matrix Embed(const EmbeddingConfig& config, const BlockConfig& block, const EmbeddingParameters& weights,
             const ModelBatch& batch) {
  const int64_t width = config.dim;
  const std::span<const int64_t> cu_lens = batch.attention.cu_q_lens;
  Matrix x(batch.token_ids.size() * width);
  for (int64_t sequence = 0; sequence + 1 < std::ssize(cu_lens); ++sequence) {
    int64_t tokens_before = 0;  // padding not counted
    for (int64_t row = cu_lens[sequence]; row < cu_lens[sequence + 1]; ++row) {
      const int64_t id = batch.token_ids[row];
      const bool padding = config.padding_id && id == *config.padding_id;
      const int64_t position = padding ? *config.padding_id : config.position_offset + tokens_before;
      if (!padding) ++tokens_before;
      const int64_t type = batch.token_types.empty() ? 0 : batch.token_types[row];
      for (int64_t i = 0; i < width; ++i) {
        x[row * width + i] = config.scale * At(weights.tokens, id * width + i) +
                             At(weights.positions, position * width + i) +
                             At(weights.token_types, type * width + i);
      }
    }
  }
  if (config.norm) x = Norm(NormKind::kLayerNorm, block.norm_eps, weights.norm, std::move(x));
  const int64_t embed_dim = block.attention.embed_dim;
  return config.projected ? Project(x, width, weights.projection, weights.projection_bias, embed_dim) : x;
}

// One layer's attention to `x`, or to the batch's own matrices while x is empty.
Matrix Attend(const ModelConfig& config, int64_t layer, const AttentionParameters& weights,
              const ModelBatch& batch, const Matrix& x, ModelReferenceResult& result) {
  const int64_t width = config.block.attention.embed_dim;
  AttentionBatch step = batch.attention;
  const std::vector<float> rounded(x.begin(), x.end());
  if (!x.empty()) {
    const int64_t rows = std::ssize(x) / width;
    step.query = step.key = step.value = {rounded.data(), rows, width, width};
    step.cu_kv_lens = step.cu_q_lens;
  }
  std::vector<SequenceOptions> sequences(step.sequences.begin(), step.sequences.end());
  for (SequenceOptions& sequence : sequences) sequence.visibility.causal |= config.causal;
  step.sequences = sequences;
  std::vector<ReferenceResult> attended = ReferenceAttention(config.LayerAttention(layer), weights, step);
  Matrix y;
  for (const ReferenceResult& sequence : attended) {
    y.insert(y.end(), sequence.output.begin(), sequence.output.end());
  }
  result.layers.push_back(std::move(attended));
  return y;
}

}  // namespace

double ReferenceActivation(Activation activation, double x) {
  switch (activation) {
    case Activation::kRelu:
      return x < 0 ? 0 : x;
    case Activation::kGeluErf:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case Activation::kGeluTanh:
      // (1 + tanh(y)) / 2 = 1 / (1 + e^(-2 y)), which does not cancel.
      return x / (1 + std::exp(-2 * std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
  }
  return 0;
}

ModelReferenceResult ReferenceModel(const ModelConfig& config, const ModelParameters& weights,
                                    const ModelBatch& batch) {
  const int64_t width = config.block.attention.embed_dim;
  ModelReferenceResult result;
  Matrix x;
  if (config.embedding) {
    x = Embed(*config.embedding, config.block, weights.embedding, batch);
  } else if (config.block.norm_placement != NormPlacement::kNone || config.num_layers > 1) {
    const MatrixView& query = batch.attention.query;
    x.assign(query.data, query.data + query.rows * query.cols);
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const BlockParameters& layer = weights.layers[config.ParametersOf(i)];
    const BlockConfig& block = config.LayerBlock(i);
    const auto norm = [&](const NormParameters& gains, const Matrix& in) {
      return Norm(block.norm_kind, block.norm_eps, gains, in);
    };
    const auto attend = [&](const Matrix& in) {
      return Attend(config, i, layer.attention, batch, in, result);
    };
    const auto feed_forward = [&](const Matrix& in) {
      return RunFeedForward(block.feed_forward, width, layer.feed_forward, in);
    };
    const auto read = [&](const Matrix& in) {  // what attention reads
      return block.attention_norm ? norm(layer.attention_norm, in) : in;
    };
    switch (block.norm_placement) {
      case NormPlacement::kNone:
        x = attend(x);
        break;
      case NormPlacement::kPost:
        x = norm(layer.attention_norm, Sum(x, attend(x)));
        x = norm(layer.feed_forward_norm, Sum(x, feed_forward(x)));
        break;
      case NormPlacement::kPre:
        x = Sum(x, attend(read(x)));
        x = Sum(x, feed_forward(norm(layer.feed_forward_norm, x)));
        break;
      case NormPlacement::kSandwich:
        x = Sum(x, norm(layer.attention_output_norm, attend(read(x))));
        x = Sum(x, norm(layer.feed_forward_output_norm, feed_forward(norm(layer.feed_forward_norm, x))));
        break;
      case NormPlacement::kBranch:
        x = Sum(x, norm(layer.attention_norm, attend(x)));
        x = Sum(x, norm(layer.feed_forward_norm, feed_forward(x)));
        break;
      case NormPlacement::kParallel:
        x = Sum(Sum(x, attend(read(x))), feed_forward(norm(layer.feed_forward_norm, x)));
        break;
    }
  }
  if (config.final_norm) x = Norm(*config.final_norm_kind, *config.final_norm_eps, weights.final_norm, x);
  result.hidden = std::move(x);
  return result;
}

std::vector<double> ReferencePooled(const ModelConfig& config, const std::vector<double>& hidden,
                                    std::span<const int64_t> cu_lens,
                                    std::span<const RowStepParameters> steps) {
  const int64_t width = config.block.attention.embed_dim;
  const int64_t dim = config.raw_pooled_dim();
  std::vector<double> pooled((cu_lens.size() - 1) * dim, 0.0);
  for (int64_t s = 0; s + 1 < std::ssize(cu_lens); ++s) {
    const int64_t n = cu_lens[s + 1] - cu_lens[s];
    for (int64_t i = 0; i < dim; ++i) {
      const auto at = [&](int64_t token) { return hidden[(cu_lens[s] + token) * width + i % width]; };
      const Pooling pooling = config.pooling[i / width];
      double sum = 0, weighted = 0, largest = at(0);
      for (int64_t token = 0; token < n; ++token) {
        sum += at(token);
        weighted += static_cast<double>(token + 1) * at(token);
        largest = std::max(largest, at(token));
      }
      const auto count = static_cast<double>(n);
      double& out = pooled[s * dim + i];
      if (pooling == Pooling::kCls) out = at(0);
      if (pooling == Pooling::kLast) out = at(n - 1);
      if (pooling == Pooling::kMax) out = largest;
      if (pooling == Pooling::kMean) out = sum / count;
      if (pooling == Pooling::kMeanSqrtLen) out = sum / std::sqrt(count);
      if (pooling == Pooling::kWeightedMean) out = weighted / (count * (count + 1) / 2);
    }
  }
  pooled = ReferenceSteps(config.pooled_steps, steps, dim, std::move(pooled));
  const RowStep normalize{.kind = RowStep::Kind::kNormalize, .in_dim = config.pooled_dim()};
  return config.normalize_pooled ? ReferenceSteps({&normalize, 1}, {}, normalize.in_dim, std::move(pooled))
                                 : pooled;
}

}  // namespace headlight
