// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/block_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>

#include "core/attention/tiled/fused_scores.h"

namespace headlight {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

template <typename T>
BlockAttention<T>::BlockAttention(const PackedLayer<T>& layer, const KeyPanels<T>& keys,
                                  const ScoreRules& rules, const QueryBlock& block, WorkerScratch& scratch,
                                  const Interruption& interruption)
    : layer_(layer),
      keys_(keys),
      rules_(rules),
      block_(block),
      scratch_(scratch),
      interruption_(interruption) {
  std::iota(queries_, queries_ + block.rows, block.first_query);
  // The bounds of what a query sees grow with the query, so the first and the last one bound the block.
  const KeyRange first = VisibleKeys(rules.visibility, block.first_query, rules.q_len, rules.kv_len);
  const KeyRange last =
      VisibleKeys(rules.visibility, block.first_query + block.rows - 1, rules.q_len, rules.kv_len);
  tiles_.first_key = first.begin / kPanelCols * kPanelCols;
  end_key_ = std::max(tiles_.first_key, last.end);
  whole_begin_ = whole_end_ = end_key_;
  const bool plain = rules.mask.empty() && rules.softcap == 0.0f && rules.alibi_slope == 0.0f &&
                     rules.distance_bias == nullptr && rules.distance_scores.cols == nullptr;
  if (layer.fused_scores && plain) {
    whole_begin_ = RoundUp(last.begin, kPanelCols);
    whole_end_ = std::max(whole_begin_, first.end / kPanelCols * kPanelCols);
  }
}

template <typename T>
void BlockAttention<T>::Run(const T* queries, MapWriter<T>& writer, std::byte* out, int64_t out_row_bytes) {
  Rows rows{.count = block_.rows,
            .queries = queries,
            .query = queries_,
            .state = {.reference = scratch_.reference.floats(),
                      .sum = scratch_.sum.floats(),
                      .acc = layer_.Padded(scratch_.acc.floats(), block_.rows)}};
  if (writer.wants_exponents()) rows.state.exponent_sum = scratch_.exponent_sum.floats();
  if (writer.sums_cells()) rows.cells = &writer.cells();
  if (!AttendFast(rows, writer)) return;
  if (rules_.sink) AddSink(rows.state, block_.rows, *rules_.sink);

  float sums[kQueryBlockRows];
  float inverse_sums[kQueryBlockRows];
  int64_t unsafe[kQueryBlockRows];
  const int64_t num_unsafe = FinishSums(rows.state, block_.rows, sums, inverse_sums, unsafe);
  if (num_unsafe > 0) {
    for (int64_t i = 0; i < num_unsafe; i += kExactRows) {
      const int64_t count = std::min(kExactRows, num_unsafe - i);
      if (!AttendExactly(queries, unsafe + i, count, writer, rows.state)) return;
    }
    rows.state.exact = true;  // as far as it had to be: no row is looked at again
    FinishSums(rows.state, block_.rows, sums, inverse_sums, unsafe);
  }
  if (writer.wanted()) {
    writer.Finish(rows.state, sums, inverse_sums, scratch_.probabilities.As<T>(), kKeptTileElements,
                  kScoreStride, interruption_);
  }
  if (layer_.config.precision == Precision::kBf16) {
    Normalise(rows.state, inverse_sums,
              BasicMatrixView<Bf16>{reinterpret_cast<Bf16*>(out), block_.rows, layer_.config.head_dim,
                                    out_row_bytes / int64_t{sizeof(Bf16)}});
  } else {
    Normalise(rows.state, inverse_sums,
              MutableMatrixView{reinterpret_cast<float*>(out), block_.rows, layer_.config.head_dim,
                                out_row_bytes / int64_t{sizeof(float)}});
  }
}

template <typename T>
bool BlockAttention<T>::AttendFast(Rows& rows, MapWriter<T>& writer) {
  BeginSoftmax(rows.state, RoundUp(rows.count, kFusedRows));
  if (rows.cells != nullptr) rows.cells->Begin(rows.count);
  if (writer.keeps_tiles()) writer.Begin(tiles_.first_key);
  UseTile(scratch_.probabilities.As<T>(), rows);
  for (int64_t key = tiles_.first_key; key < end_key_; key = TileEnd(key)) {
    if (!AttendTile(rows, key, TileEnd(key))) return false;
    if (!writer.keeps_tiles()) continue;
    writer.AddTile(TileEnd(key), rows.state);
    UseTile(rows.probabilities + kKeptTileElements, rows);
  }
  if (keys_.appended_keys != nullptr) AttendAppended(rows, nullptr, writer);
  return true;
}

template <typename T>
void BlockAttention<T>::UseTile(T* probabilities, Rows& rows) const {
  rows.probabilities = probabilities;
  if constexpr (std::is_same_v<T, float>) {
    rows.scores = probabilities;
  } else {
    rows.scores = scratch_.scores.floats();
  }
}

// Does rows of the block once more, with the running maximum as their reference, and puts them back.
template <typename T>
bool BlockAttention<T>::AttendExactly(const T* queries, const int64_t* block_rows, int64_t count,
                                      MapWriter<T>& writer, const SoftmaxState& of_block) {
  const int64_t width = layer_.padded_head_dim;
  T* const gathered = scratch_.exact_queries.As<T>();
  int64_t query[kExactRows];
  float reference[kExactRows], sum[kExactRows * kLanes], exponent_sum[kExactRows * kLanes];
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(queries + block_rows[i] * width, width, gathered + i * width);
    query[i] = queries_[block_rows[i]];
  }
  Rows rows{.count = count,
            .queries = gathered,
            .query = query,
            .state = {.reference = reference,
                      .sum = sum,
                      .acc = layer_.Padded(scratch_.exact_acc.floats(), count),
                      .exponent_sum = of_block.exponent_sum == nullptr ? nullptr : exponent_sum,
                      .exact = true}};
  UseTile(scratch_.exact_tile.As<T>(), rows);
  BeginSoftmax(rows.state, count);
  if (writer.sums_cells()) {
    rows.cells = &writer.exact_cells();
    rows.cells->Begin(count);
  }
  int64_t tile = 0;
  for (int64_t key = tiles_.first_key; key < end_key_; key = TileEnd(key), ++tile) {
    if (!AttendTile(rows, key, TileEnd(key))) return false;
    if (!writer.keeps_tiles()) continue;
    for (int64_t i = 0; i < count; ++i) {
      writer.Reference(tile, block_rows[i]) = reference[i];
      std::copy_n(rows.probabilities + i * kScoreStride, RoundUp(TileEnd(key) - key, kGranule<T>),
                  Kept(block_rows[i], key));
    }
  }
  if (keys_.appended_keys != nullptr) AttendAppended(rows, block_rows, writer);
  if (rules_.sink) AddSink(rows.state, count, *rules_.sink);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = block_rows[i];
    of_block.reference[row] = reference[i];
    std::copy_n(sum + i * kLanes, kLanes, of_block.sum + row * kLanes);
    if (of_block.exponent_sum != nullptr) {
      std::copy_n(exponent_sum + i * kLanes, kLanes, of_block.exponent_sum + row * kLanes);
    }
    std::copy_n(rows.state.acc.Row(i), width, of_block.acc.Row(row));
    if (rows.cells != nullptr) writer.cells().Replace(row, *rows.cells, i);
  }
  return true;
}

// False where nobody waits for the rows any more.
template <typename T>
bool BlockAttention<T>::AttendTile(const Rows& rows, int64_t first_key, int64_t end_key) {
  if (!interruption_.MayGoOn()) return false;
  Score(rows, first_key, end_key);
  if (!interruption_.MayGoOn()) return false;  // wide heads make these two long
  AddValues(rows, first_key, end_key);
  AddToCells(rows, first_key, end_key);
  return true;
}

// The keys that follow those of every sequence, seen by all rows: a tile of their own, since where they would
// stand among the others depends on how many there are. Row i is row block_rows[i] of the block, i itself if
// that is null.
template <typename T>
void BlockAttention<T>::AttendAppended(const Rows& rows, const int64_t* block_rows, MapWriter<T>& writer) {
  const int64_t num_keys = rules_.num_keys - rules_.kv_len;
  layer_.score_keys[0]->Run(rows.count, rows.queries, keys_.appended_keys, rows.scores, scratch_.gemm.bytes(),
                            nullptr, {});
  SoftmaxTile(ScoreTile<T>{.scores = {rows.scores, rows.count, num_keys, kScoreStride},
                           .probabilities = rows.probabilities,
                           .probability_stride = kScoreStride,
                           .query = rows.query,
                           .first_key = rules_.kv_len},
              rules_, rows.state);
  layer_.add_values[0]->Run(rows.count, rows.probabilities, keys_.appended_values, rows.state.acc.data,
                            scratch_.gemm.bytes(), nullptr, {});
  AddToCells(rows, rules_.kv_len, rules_.num_keys);
  if (!writer.keeps_tiles()) return;
  writer.ExtendTo(rules_.num_keys);
  for (int64_t i = 0; i < rows.count; ++i) {
    KeepAppended(rows.probabilities + i * kScoreStride, rows.state.reference[i],
                 block_rows == nullptr ? i : block_rows[i], writer);
  }
}

// Puts a row's weights of the appended keys behind those of the others, with zeros for the keys in between.
template <typename T>
void BlockAttention<T>::KeepAppended(const T* weights, float reference, int64_t block_row,
                                     MapWriter<T>& writer) {
  T appended[kGranule<T>];
  std::copy_n(weights, kGranule<T>, appended);  // which may lie where they go
  for (int64_t key = end_key_; key < rules_.kv_len; ++key) {
    *Kept(block_row, key) = T{};
    const int64_t tile = tiles_.TileOf(key);
    if (key == tiles_.FirstKey(tile)) writer.Reference(tile, block_row) = reference;
  }
  for (int64_t key = rules_.kv_len; key < rules_.num_keys; ++key) {
    const int64_t tile = tiles_.TileOf(key);
    const int64_t tile_key = tiles_.FirstKey(tile);
    float& of_tile = writer.Reference(tile, block_row);
    if (key == tile_key) of_tile = reference;
    if (of_tile != reference) {
      const auto factor = static_cast<float>(std::exp2(static_cast<double>(of_tile - reference)));
      for (int64_t k = tile_key; k < key; ++k) {
        T& weight = *Kept(block_row, k);
        weight = FromFloat<T>(ToFloat(weight) * factor);
      }
      of_tile = reference;
    }
    *Kept(block_row, key) = appended[key - rules_.kv_len];
  }
  const int64_t last = rules_.num_keys - 1;
  const int64_t in_tile = last + 1 - tiles_.FirstKey(tiles_.TileOf(last));
  std::fill_n(Kept(block_row, last) + 1, RoundUp(in_tile, kLanes) - in_tile, T{});
}

// Scores and exponentials of the keys [first_key, end_key), at most a tile of them.
template <typename T>
void BlockAttention<T>::Score(const Rows& rows, int64_t first_key, int64_t end_key) {
  if (rows.state.exact) return ScoreByRules(rows, first_key, first_key, end_key);
  const int64_t whole_begin = std::clamp(whole_begin_, first_key, end_key);
  const int64_t whole_end = std::clamp(whole_end_, whole_begin, end_key);
  if (whole_begin == whole_end) return ScoreByRules(rows, first_key, first_key, end_key);
  ScoreByRules(rows, first_key, first_key, whole_begin);
  ScoreFused(rows, first_key, whole_begin, whole_end);
  ScoreByRules(rows, first_key, whole_end, end_key);
}

template <typename T>
void BlockAttention<T>::ScoreByRules(const Rows& rows, int64_t tile_key, int64_t first_key, int64_t end_key) {
  if (first_key >= end_key) return;
  const int64_t offset = first_key - tile_key;
  const int64_t padded_keys = RoundUp(rules_.kv_len, kGranule<T>);
  for (int64_t key = first_key; key < end_key; key += kPanelCols) {
    const int64_t width = std::min(kPanelCols, padded_keys - key);
    layer_.score_keys[width / kGranule<T> - 1]->Run(rows.count, rows.queries, keys_.keys[key / kPanelCols],
                                                    rows.scores + (key - tile_key), scratch_.gemm.bytes(),
                                                    nullptr, {});
  }
  SoftmaxTile(ScoreTile<T>{.scores = {rows.scores + offset, rows.count, end_key - first_key, kScoreStride},
                           .probabilities = rows.probabilities + offset,
                           .probability_stride = kScoreStride,
                           .query = rows.query,
                           .first_key = first_key},
              rules_, rows.state);
}

// The same for panels of keys that every query of the block sees, with nothing done to their scores.
template <typename T>
void BlockAttention<T>::ScoreFused(const Rows& rows, int64_t tile_key, int64_t first_key, int64_t end_key) {
  ScoreAndExp(FusedScores<T>{.queries = rows.queries,
                             .keys = keys_.keys.data() + first_key / kPanelCols,
                             .rows = rows.count,
                             .head_dim = layer_.padded_head_dim,
                             .num_panels = (end_key - first_key) / kPanelCols,
                             .probabilities = rows.probabilities + (first_key - tile_key),
                             .probability_stride = kScoreStride,
                             .reference = rows.state.reference,
                             .sum = rows.state.sum,
                             .exponent_sum = rows.state.exponent_sum});
}

template <typename T>
void BlockAttention<T>::AddValues(const Rows& rows, int64_t first_key, int64_t end_key) {
  const int64_t first_panel = first_key / kPanelCols;
  const int64_t whole_end = end_key / kPanelCols * kPanelCols;
  const T* probabilities = rows.probabilities;
  if (whole_end > first_key) {
    layer_.add_values.back()->RunPanels(
        rows.count, probabilities, reinterpret_cast<const void* const*>(keys_.values.data() + first_panel),
        (whole_end - first_key) / kPanelCols, rows.state.acc.data, scratch_.gemm.bytes());
    probabilities += whole_end - first_key;
  }
  if (whole_end < end_key) {
    const int64_t depth = RoundUp(end_key - whole_end, kGranule<T>);
    layer_.add_values[depth / kGranule<T> - 1]->Run(rows.count, probabilities,
                                                    keys_.values[whole_end / kPanelCols], rows.state.acc.data,
                                                    scratch_.gemm.bytes(), nullptr, {});
  }
  for (int64_t panel = first_panel; panel * kPanelCols < end_key; ++panel) {
    if (keys_.not_finite[panel] != 0) [[unlikely]]
      SpoilRows(rows, first_key, end_key, panel);
  }
}

// While a tile's exponentials are in cache.
template <typename T>
void BlockAttention<T>::AddToCells(const Rows& rows, int64_t first_key, int64_t end_key) const {
  if (rows.cells == nullptr) return;
  rows.cells->Add(RowsOfExponentials<T>{rows.probabilities, kScoreStride, rows.count, first_key, end_key},
                  rows.state.reference);
}

// Rows with a weight for a value that is not finite have no finite result.
template <typename T>
void BlockAttention<T>::SpoilRows(const Rows& rows, int64_t first_key, int64_t end_key, int64_t panel) {
  for (int64_t key = panel * kPanelCols; key < std::min(end_key, (panel + 1) * kPanelCols); ++key) {
    if ((keys_.not_finite[panel] >> key % kPanelCols & 1) == 0) continue;
    for (int64_t row = 0; row < rows.count; ++row) {
      if (ToFloat(rows.probabilities[row * kScoreStride + key - first_key]) == 0.0f) continue;
      std::fill_n(rows.state.acc.Row(row), rows.state.acc.cols, kNan);
    }
  }
}

template class BlockAttention<float>;
template class BlockAttention<Bf16>;

}  // namespace headlight
