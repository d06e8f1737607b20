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
  first_reported_head_ = sink.heads.empty()
                             ? head.head == 0
                             : head.head == *std::min_element(sink.heads.begin(), sink.heads.end());
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
template <typename Use>
void WeightsWriter<T>::ForEachTile(int64_t row, const SoftmaxState& state, const T* tiles,
                                   int64_t tile_stride, const Use& use) const {
  const float sum = RowSum(state, row);
  for (int64_t tile = 0; tile < num_tiles_; ++tile) {
    const int64_t key = first_key_ + tile * kKeyTile;
    const float reference = scratch_.tile_reference[tile * kQueryBlockRows + row];
    // No allowed key in the row, or up to this tile: all of its exponentials are 0.
    const bool empty = sum == 0.0f || reference == -INFINITY;
    const float rescaling =
        reference == state.reference[row] ? 1.0f : std::exp2(reference - state.reference[row]);
    use(tiles + tile * tile_stride, std::min(kKeyTile, end_key_ - key), empty ? 0.0f : rescaling / sum, key);
  }
}

template <typename T>
void WeightsWriter<T>::WriteRow(int64_t row, const SoftmaxState& state, const T* tiles,
                                int64_t tile_stride) const {
  const int64_t query = block_.first_query + row;
  const int64_t sink_query = query - sink_.QueryBegin(head_.q_len);
  const int64_t place = place_ * sink_.head_stride + sink_query * sink_.query_stride;
  const auto fill_unseen = [&](float* out) {
    std::fill(out, out + first_key_, 0.0f);
    std::fill(out + end_key_, out + head_.num_keys, 0.0f);
  };
  switch (sink_.mode) {
    case WeightsSink::Mode::kNone:
      return;
    case WeightsSink::Mode::kFull: {
      float* const out = sink_.data + place;
      fill_unseen(out);
      return ForEachTile(
          row, state, tiles, tile_stride,
          [&](const T* e, int64_t keys, float factor, int64_t key) { StreamTo(e, keys, factor, out + key); });
    }
    case WeightsSink::Mode::kMean: {
      float* const out = sink_.data + sink_query * sink_.query_stride;
      const float share = 1.0f / static_cast<float>(sink_.NumHeads(head_.num_heads));
      if (first_reported_head_) fill_unseen(out);
      return ForEachTile(row, state, tiles, tile_stride,
                         [&](const T* e, int64_t keys, float factor, int64_t key) {
                           if (first_reported_head_) {
                             ScaleTo(e, keys, factor * share, out + key);
                           } else {
                             ScaleAndAdd(e, keys, factor * share, out + key);
                           }
                         });
    }
    case WeightsSink::Mode::kTopK:
    case WeightsSink::Mode::kSummary:
      break;
  }
  fill_unseen(scratch_.row);
  ForEachTile(row, state, tiles, tile_stride, [&](const T* e, int64_t keys, float factor, int64_t key) {
    ScaleTo(e, keys, factor, scratch_.row + key);
  });
  if (sink_.mode == WeightsSink::Mode::kTopK) {
    SelectTopK(scratch_.row, head_.num_keys, sink_.top_k, sink_.data + place, sink_.keys + place);
  } else {
    AddToSummary(scratch_.row, head_.num_keys, head_.kv_len, query + head_.kv_len - head_.q_len, *summary_,
                 sink_.received_mass + place_ * sink_.received_stride);
  }
}

template <typename T>
void WeightsWriter<T>::Finish(const SoftmaxState& state, const T* tiles, int64_t tile_stride,
                              int64_t row_stride) {
  for (int64_t row = first_row_; row < end_row_; ++row) {
    WriteRow(row, state, tiles + row * row_stride, tile_stride);
  }
  if (sink_.mode == WeightsSink::Mode::kFull) FinishStreams();
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
