// SPDX-License-Identifier: Apache-2.0
#include "core/attention/weights_writer.h"

#include <algorithm>
#include <cmath>

namespace headlight {

template <typename T>
WeightsWriter<T>::WeightsWriter(const WeightsSink& sink, const WeightsHead& head, const QueryBlock& block,
                                const WeightsScratch& scratch, SummarySums* summary)
    : sink_(sink), head_(head), block_(block), scratch_(scratch), summary_(summary) {
  if (sink.mode == WeightsSink::Mode::kNone) return;
  place_ = sink.HeadPlace(head.head);
  if (place_ < 0) return;
  first_row_ = std::clamp<int64_t>(sink.QueryBegin(head.q_len) - block.first_query, 0, block.rows);
  end_row_ = std::clamp<int64_t>(sink.QueryEnd(head.q_len) - block.first_query, 0, block.rows);
}

template <typename T>
void WeightsWriter<T>::Begin(int64_t first_key) {
  num_tiles_ = 0;
  first_key_ = end_key_ = first_key;
}

template <typename T>
void WeightsWriter<T>::AddTile(int64_t keys, const SoftmaxState& state) {
  std::copy_n(state.reference, block_.rows, scratch_.tile_reference + num_tiles_ * kQueryBlockRows);
  ++num_tiles_;
  end_key_ += keys;
}

template <typename T>
void WeightsWriter<T>::AssembleRow(int64_t row, const SoftmaxState& state, const T* tiles,
                                   int64_t tile_stride, float* out) const {
  std::fill(out, out + first_key_, 0.0f);
  const float sum = RowSum(state, row);
  for (int64_t tile = 0; tile < num_tiles_; ++tile) {
    const int64_t key = first_key_ + tile * kKeyTile;
    const float reference = scratch_.tile_reference[tile * kQueryBlockRows + row];
    // No allowed key in the row, or up to this tile: all of its exponentials are 0.
    const bool empty = sum == 0.0f || reference == -INFINITY;
    const float rescaling =
        reference == state.reference[row] ? 1.0f : std::exp2(reference - state.reference[row]);
    const float factor = empty ? 0.0f : rescaling / sum;
    ScaleTo(tiles + tile * tile_stride, std::min(kKeyTile, end_key_ - key), factor, out + key);
  }
  std::fill(out + end_key_, out + head_.num_keys, 0.0f);
}

template <typename T>
void WeightsWriter<T>::UseRow(int64_t query, int64_t sink_query, const float* weights) {
  const int64_t place = place_ * sink_.head_stride + sink_query * sink_.query_stride;
  switch (sink_.mode) {
    case WeightsSink::Mode::kNone:
    case WeightsSink::Mode::kFull:  // assembled in place
      return;
    case WeightsSink::Mode::kMean: {
      float* mean = sink_.data + sink_query * sink_.query_stride;
      const bool first_head = sink_.heads.empty()
                                  ? head_.head == 0
                                  : head_.head == *std::min_element(sink_.heads.begin(), sink_.heads.end());
      if (first_head) std::fill(mean, mean + head_.num_keys, 0.0f);
      const auto num_heads = static_cast<float>(sink_.NumHeads(head_.num_heads));
      return ScaleAndAdd(weights, head_.num_keys, 1.0f / num_heads, mean);
    }
    case WeightsSink::Mode::kTopK:
      return SelectTopK(weights, head_.num_keys, sink_.top_k, sink_.data + place, sink_.keys + place);
    case WeightsSink::Mode::kSummary:
      return AddToSummary(weights, head_.num_keys, head_.kv_len, query + head_.kv_len - head_.q_len,
                          *summary_, sink_.received_mass + place_ * sink_.received_stride);
  }
}

template <typename T>
void WeightsWriter<T>::Finish(const SoftmaxState& state, const T* tiles, int64_t tile_stride,
                              int64_t row_stride) {
  for (int64_t row = first_row_; row < end_row_; ++row) {
    const int64_t query = block_.first_query + row;
    const int64_t sink_query = query - sink_.QueryBegin(head_.q_len);
    float* weights = sink_.mode == WeightsSink::Mode::kFull
                         ? sink_.data + place_ * sink_.head_stride + sink_query * sink_.query_stride
                         : scratch_.row;
    AssembleRow(row, state, tiles + row * row_stride, tile_stride, weights);
    UseRow(query, sink_query, weights);
  }
}

template class WeightsWriter<float>;
template class WeightsWriter<Bf16>;

void FinishSummary(const SummarySums& sums, float* statistics) {
  for (int i = 0; i < kNumHeadStatistics; ++i) {
    statistics[i] = sums.num_queries == 0
                        ? 0.0f
                        : static_cast<float>(sums.statistics[i] / static_cast<double>(sums.num_queries));
  }
}

}  // namespace headlight
