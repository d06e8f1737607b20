// SPDX-License-Identifier: Apache-2.0
#include "core/attention/weights_writer.h"

#include <algorithm>
#include <cmath>

namespace headlight {

WeightsWriter::WeightsWriter(const WeightsSink& sink, int64_t head, int64_t num_heads, int64_t kv_len,
                             const QueryBlock& block, const WeightsScratch& scratch)
    : sink_(sink), head_(head), num_heads_(num_heads), kv_len_(kv_len), block_(block), scratch_(scratch) {}

// Where the block's row is put together: in the sink itself, or in scratch before it is added to a mean.
float* WeightsWriter::Row(int64_t row) const {
  if (sink_.mode == WeightsSink::Mode::kMean) return scratch_.mean_rows + row * kv_len_;
  return sink_.data + head_ * sink_.head_stride + (block_.first_query + row) * sink_.query_stride;
}

void WeightsWriter::AddTile(const ScoreTile& tile, const float* row_max) {
  if (sink_.mode == WeightsSink::Mode::kNone) return;
  if (num_tiles_ == 0) first_key_ = tile.first_key;
  end_key_ = tile.first_key + tile.scores.cols;
  for (int64_t row = 0; row < block_.rows; ++row) {
    std::copy_n(tile.scores.Row(row), tile.scores.cols, Row(row) + tile.first_key);
  }
  std::copy_n(row_max, block_.rows, scratch_.tile_max + num_tiles_ * kQueryBlockRows);
  ++num_tiles_;
}

void WeightsWriter::Finish(const SoftmaxState& state) {
  if (sink_.mode == WeightsSink::Mode::kNone) return;
  for (int64_t row = 0; row < block_.rows; ++row) {
    float* weights = Row(row);
    std::fill(weights, weights + first_key_, 0.0f);
    std::fill(weights + end_key_, weights + kv_len_, 0.0f);
    for (int64_t tile = 0; tile < num_tiles_; ++tile) {
      const int64_t key = first_key_ + tile * kKeyTile;
      const float sum = state.row_sum[row];
      const float tile_max = scratch_.tile_max[tile * kQueryBlockRows + row];
      const bool empty =
          sum == 0.0f || tile_max == -INFINITY;  // no allowed key in the row, or up to this tile
      const float factor = empty ? 0.0f : std::exp2(tile_max - state.row_max[row]) / sum;
      ScaleTo(weights + key, std::min(kKeyTile, end_key_ - key), factor, weights + key);
    }
    if (sink_.mode == WeightsSink::Mode::kMean) {
      float* mean = sink_.data + (block_.first_query + row) * sink_.query_stride;
      if (head_ == 0) std::fill(mean, mean + kv_len_, 0.0f);
      ScaleAndAdd(weights, kv_len_, 1.0f / static_cast<float>(num_heads_), mean);
    }
  }
}

}  // namespace headlight
