// SPDX-License-Identifier: Apache-2.0
#include "core/model/heads/reference.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>

namespace headlight {
namespace {

using Rows = std::vector<double>;

double NumberAt(const std::vector<float>& values, int64_t i) {
  return values.empty() ? 0.0 : static_cast<double>(values[i]);
}

void Normalize(Rows& rows, int64_t width) {
  for (int64_t row = 0; row < std::ssize(rows); row += width) {
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += rows[row + i] * rows[row + i];
    for (int64_t i = 0; i < width && squares > 0; ++i) rows[row + i] /= std::sqrt(squares);
  }
}

Rows Dense(const RowStep& step, const RowStepParameters& parameters, const Rows& x) {
  const int64_t rows = std::ssize(x) / step.in_dim;
  Rows y(rows * step.out_dim);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < step.out_dim; ++col) {
      double sum = NumberAt(parameters.bias, col);
      for (int64_t i = 0; i < step.in_dim; ++i) {
        sum += x[row * step.in_dim + i] * static_cast<double>(parameters.weight[i * step.out_dim + col]);
      }
      y[row * step.out_dim + col] = ReferenceActivated(step.activation, sum);
    }
  }
  return y;
}

void LayerNorm(const RowStep& step, const RowStepParameters& parameters, Rows& rows) {
  const int64_t width = step.in_dim;
  for (int64_t row = 0; row < std::ssize(rows); row += width) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < width; ++i) mean += rows[row + i] / static_cast<double>(width);
    for (int64_t i = 0; i < width; ++i) {
      variance += (rows[row + i] - mean) * (rows[row + i] - mean) / static_cast<double>(width);
    }
    for (int64_t i = 0; i < width; ++i) {
      rows[row + i] =
          (rows[row + i] - mean) / std::sqrt(variance + step.eps) * NumberAt(parameters.weight, i) +
          NumberAt(parameters.bias, i);
    }
  }
}

}  // namespace

double ReferenceActivated(RowActivation activation, double x) {
  switch (activation) {
    case RowActivation::kIdentity:
      return x;
    case RowActivation::kRelu:
      return std::max(x, 0.0);
    case RowActivation::kGeluErf:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case RowActivation::kGeluTanh:
      return x / (1 + std::exp(-2 * std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case RowActivation::kSilu:
      return x / (1 + std::exp(-x));
    case RowActivation::kTanh:
      return std::tanh(x);
    case RowActivation::kSigmoid:
      return 1 / (1 + std::exp(-x));
  }
  return x;
}

std::vector<double> ReferenceSteps(std::span<const RowStep> steps,
                                   std::span<const RowStepParameters> parameters, int64_t in_dim,
                                   std::vector<double> rows) {
  for (size_t i = 0; i < steps.size(); ++i) {
    switch (steps[i].kind) {
      case RowStep::Kind::kDense:
        rows = Dense(steps[i], parameters[i], rows);
        in_dim = steps[i].out_dim;
        break;
      case RowStep::Kind::kLayerNorm:
        LayerNorm(steps[i], parameters[i], rows);
        break;
      case RowStep::Kind::kNormalize:
        Normalize(rows, in_dim);
        break;
    }
  }
  return rows;
}

std::vector<double> ReferenceHead(const HeadConfig& head, const HeadParameters& parameters, int64_t embed_dim,
                                  std::span<const float> tokens, const std::vector<double>& hidden) {
  Rows rows = hidden;
  const int64_t n = std::ssize(hidden) / embed_dim;
  if (head.kind == HeadKind::kScores) {
    rows.assign(embed_dim, 0.0);
    const int64_t first = head.scores_of == ScoresOf::kLastToken ? n - 1 : 0;
    const int64_t count = head.scores_of == ScoresOf::kMean ? n : 1;
    for (int64_t token = first; token < first + count; ++token) {
      for (int64_t i = 0; i < embed_dim; ++i) {
        rows[i] += hidden[token * embed_dim + i] / static_cast<double>(count);
      }
    }
  }
  if (head.kind == HeadKind::kTokenVectors) {
    rows.erase(rows.begin(), rows.begin() + std::min(n, head.skipped_tokens) * embed_dim);
  }
  rows = ReferenceSteps(head.steps, parameters.steps, embed_dim, std::move(rows));
  const int64_t width = OutDim(head.steps, embed_dim);
  if (head.kind == HeadKind::kTokenVectors) Normalize(rows, width);
  if (head.kind != HeadKind::kLanguageModel) return rows;
  const std::span<const float> table = head.tied ? tokens : std::span<const float>(parameters.vocab);
  Rows logits(n * head.vocab_size);
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t id = 0; id < head.vocab_size; ++id) {
      double sum = NumberAt(parameters.vocab_bias, id);
      for (int64_t i = 0; i < width; ++i) {
        sum += rows[row * width + i] * static_cast<double>(table[id * width + i]);
      }
      if (head.logit_cap > 0) sum = head.logit_cap * std::tanh(sum / head.logit_cap);
      logits[row * head.vocab_size + id] = sum;
    }
  }
  return logits;
}

std::vector<double> ReferenceSparse(const std::vector<double>& logits, int64_t vocab_size) {
  Rows weights(vocab_size, 0.0);
  for (int64_t i = 0; i < std::ssize(logits); ++i) {
    double& weight = weights[i % vocab_size];
    weight = std::max(weight, std::log1p(std::max(logits[i], 0.0)));
  }
  return weights;
}

}  // namespace headlight
