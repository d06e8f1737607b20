// SPDX-License-Identifier: Apache-2.0
#include "tests/golden/rounded_parameters.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/tensor/bf16.h"

namespace headlight::testing {
namespace {

void RoundColumn(Precision held, std::vector<float>& matrix, int64_t cols, int64_t col) {
  const auto size = static_cast<int64_t>(matrix.size());
  float largest = 0.0f;
  for (int64_t i = col; i < size; i += cols) largest = std::max(largest, std::abs(matrix[i]));
  const float scale = largest / 127.0f;
  for (int64_t i = col; i < size; i += cols) {
    if (held == Precision::kBf16) {
      matrix[i] = ToFloat(ToBf16(matrix[i]));
    } else if (scale > 0.0f) {
      matrix[i] = scale * std::nearbyint(matrix[i] / scale);
    }
  }
}

void RoundColumns(Precision held, std::vector<float>& matrix, int64_t cols) {
  for (int64_t col = 0; col < cols; ++col) RoundColumn(held, matrix, cols, col);
}

}  // namespace

void RoundParameters(Precision held, const AttentionConfig& config, AttentionParameters& parameters) {
  RoundColumns(held, parameters.wq, config.q_width());
  RoundColumns(held, parameters.wk, config.kv_width());
  RoundColumns(held, parameters.wv, config.kv_width());
  RoundColumns(held, parameters.wo, config.embed_dim);
}

void RoundParameters(Precision held, const ModelConfig& config, ModelParameters& parameters) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (config.ParametersOf(layer) != layer) continue;
    const BlockConfig& block = config.LayerBlock(layer);
    BlockParameters& of_layer = parameters.layers[layer];
    RoundParameters(held, block.attention, of_layer.attention);
    RoundColumns(held, of_layer.feed_forward.up, block.feed_forward.hidden_dim);
    RoundColumns(held, of_layer.feed_forward.gate, block.feed_forward.hidden_dim);
    RoundColumns(held, of_layer.feed_forward.down, block.attention.embed_dim);
  }
}

}  // namespace headlight::testing
