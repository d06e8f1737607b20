// SPDX-License-Identifier: Apache-2.0
#include "core/attention/weights_writer.h"

#include <algorithm>
#include <cmath>

#include "core/attention/weight_top_k.h"

namespace headlight {
template <typename T>
WeightsWriter<T>::WeightsWriter(const WeightsSink& sink, const WeightsHead& head, const QueryBlock& block,
                                float* tile_factors, SummarySums* summary)
    : sink_(sink), head_(head), block_(block), tile_factors_(tile_factors), summary_(summary) {
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

// Notes the references that the tile's exponentials are relative to; MakeFactors takes it from there.
template <typename T>
void WeightsWriter<T>::AddTile(int64_t keys, const SoftmaxState& state) {
  std::copy_n(state.reference, block_.rows, tile_factors_ + num_tiles_ * kQueryBlockRows);
  ++num_tiles_;
  end_key_ += keys;
}

// Turns the tiles' references into factors.
template <typename T>
void WeightsWriter<T>::MakeFactors(const SoftmaxState& state, const float* sums) const {
  for (int64_t tile = 0; tile < num_tiles_; ++tile) {
    float* const factors = tile_factors_ + tile * kQueryBlockRows;
    for (int64_t row = first_row_; row < end_row_; ++row) {
      const float reference = factors[row];
      if (sums[row] == 0.0f || reference == -INFINITY) {
        factors[row] = 0.0f;  // no allowed key in the row, or up to this tile: all of its exponentials are 0
      } else if (reference == state.reference[row]) {
        factors[row] = 1.0f / sums[row];
      } else {
        factors[row] = std::exp2(reference - state.reference[row]) / sums[row];
      }
    }
  }
}

template <typename T>
template <typename Use>
void WeightsWriter<T>::ForEachTile(const WeightTiles<T>& tiles, int64_t row, const Use& use) const {
  for (int64_t tile = 0; tile < num_tiles_; ++tile) {
    use(tiles.Row(tile, row), tiles.NumKeys(tile), tiles.Factor(tile, row), tiles.FirstKey(tile));
  }
}

template <typename T>
void WeightsWriter<T>::WriteRow(const WeightTiles<T>& tiles, int64_t row) const {
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
      return ForEachTile(tiles, row, [&](const T* e, int64_t keys, float factor, int64_t key) {
        StreamTo(e, keys, factor, out + key);
      });
    }
    case WeightsSink::Mode::kMean: {
      float* const out = sink_.data + sink_query * sink_.query_stride;
      const float share = 1.0f / static_cast<float>(sink_.NumHeads(head_.num_heads));
      if (first_reported_head_) fill_unseen(out);
      return ForEachTile(tiles, row, [&](const T* e, int64_t keys, float factor, int64_t key) {
        if (first_reported_head_) {
          ScaleTo(e, keys, factor * share, out + key);
        } else {
          ScaleAndAdd(e, keys, factor * share, out + key);
        }
      });
    }
    case WeightsSink::Mode::kTopK:
    case WeightsSink::Mode::kSummary:
      return;  // all rows at once
  }
}

template <typename T>
void WeightsWriter<T>::Finish(const SoftmaxState& state, const T* exponentials, int64_t tile_stride,
                              int64_t row_stride) {
  float sums[kQueryBlockRows];
  SumRows(state.sum, block_.rows, sums);
  MakeFactors(state, sums);
  const WeightTiles<T> tiles{exponentials, tile_stride, row_stride, tile_factors_, first_key_, end_key_};
  if (sink_.mode == WeightsSink::Mode::kSummary) {
    float exponent_sums[kQueryBlockRows];
    SumRows(state.exponent_sum, block_.rows, exponent_sums);
    const SummaryRows rows{.first_row = first_row_,
                           .end_row = end_row_,
                           .first_position = block_.first_query + head_.kv_len - head_.q_len,
                           .kv_len = head_.kv_len,
                           .sums = sums,
                           .exponent_sums = exponent_sums};
    return AddToSummary(tiles, rows, *summary_, sink_.received_mass + place_ * sink_.received_stride);
  }
  if (sink_.mode == WeightsSink::Mode::kTopK) {
    const int64_t place =
        place_ * sink_.head_stride +
        (block_.first_query + first_row_ - sink_.QueryBegin(head_.q_len)) * sink_.query_stride;
    const TopKLists lists{sink_.top_k, sink_.data + place, sink_.keys + place, sink_.query_stride};
    return SelectTopK(tiles, first_row_, end_row_, lists);
  }
  for (int64_t row = first_row_; row < end_row_; ++row) WriteRow(tiles, row);
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
