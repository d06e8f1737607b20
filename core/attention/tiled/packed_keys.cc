// SPDX-License-Identifier: Apache-2.0
#include "core/attention/tiled/packed_keys.h"

#include <type_traits>

#include "core/attention/interruption.h"
#include "core/attention/tiled/rotate.h"
#include "core/attention/tiled/transpose.h"

namespace headlight {
namespace {

// Asks for `size_bytes` in L2. Products read rows of operands in an order that the hardware does not foresee.
void Prefetch(const std::byte* begin, int64_t size_bytes) {
  for (int64_t at = 0; at < size_bytes; at += kCacheLineBytes) __builtin_prefetch(begin + at, 0, 2);
}

// A projection's f32 rows are what attention computes on.
template <typename T>
constexpr bool kIsFloat = std::is_same_v<T, float>;

}  // namespace

template <typename T>
KeyPacker<T>::KeyPacker(const PackedLayer<T>& layer, const AttentionBatch& batch,
                        const TiledWorkspace& workspace, const SequenceGroup& group,
                        const GroupMemory& memory)
    : layer_(layer), batch_(batch), workspace_(workspace), memory_(memory) {
  T** const key_panels = memory.key_panels.As<T*>();
  T** const value_panels = memory.value_panels.As<T*>();
  for (int64_t s = group.first_sequence; s < group.end_sequence; ++s) {
    const int64_t first_panel = workspace.plan.first_panel[s];
    for (int64_t panel = 0; panel * kPanelCols < batch.kv_len(s); ++panel) {
      const int64_t row = workspace.plan.packed_key_row[s] + panel * kPanelCols;
      key_panels[first_panel + panel] = memory.keys.As<T>() + row * layer.padded_head_dim;
      value_panels[first_panel + panel] = memory.values.As<T>() + row * layer.padded_head_dim;
    }
  }
}

template <typename T>
KeyPanels<T> KeyPacker<T>::PanelsOf(int64_t sequence, int64_t kv_head) const {
  const int64_t first = workspace_.plan.first_panel[sequence];
  const auto count = static_cast<size_t>((batch_.kv_len(sequence) + kPanelCols - 1) / kPanelCols);
  const bool appends = layer_.config.num_appended_keys() > 0;
  return {.keys = {memory_.key_panels.As<T*>() + first, count},
          .values = {memory_.value_panels.As<T*>() + first, count},
          .not_finite = {memory_.not_finite.As<uint64_t>() + first, count},
          .appended_keys = appends ? layer_.Appended(layer_.appended_k, kv_head) : nullptr,
          .appended_values = appends ? layer_.Appended(layer_.appended_v, kv_head) : nullptr};
}

template <typename T>
bool KeyPacker<T>::Pack(const KeyChunk& chunk, int64_t kv_head, WorkerScratch& scratch) const {
  return PackKeys(chunk, kv_head, scratch) && PackValues(chunk, kv_head, scratch);
}

template <typename T>
bool KeyPacker<T>::PackKeys(const KeyChunk& chunk, int64_t kv_head, WorkerScratch& scratch) const {
  float* const projected = scratch.projected.floats();
  const Operands input = workspace_.key.From(chunk.first_row);
  if constexpr (!kIsFloat<T>) Prefetch(input.rows, chunk.rows * input.row_bytes);
  const BatchInterruption interruption(*workspace_.arena, batch_.sequences, batch_.cu_kv_lens,
                                       chunk.first_row, chunk.rows);
  if (!layer_.project_k.Run(chunk.rows, input, layer_.wk[kv_head], projected, scratch.gemm.bytes(),
                            interruption, layer_.OfHead(layer_.bk, kv_head),
                            layer_.wv[kv_head].PanelAhead(0))) {
    return false;
  }
  const float* const factors =
      layer_.config.qk_norm == QkNorm::kAllHeads ? workspace_.k_factors.floats() : nullptr;
  ForEachPart(batch_.cu_kv_lens, chunk.first_row, chunk.rows,
              [&](int64_t row, int64_t rows, int64_t sequence, int64_t first_key) {
                float* const part = projected + row * layer_.padded_head_dim;
                T* finished;
                if constexpr (kIsFloat<T>) {
                  finished = part;
                } else {
                  finished = scratch.finished.As<T>();
                }
                const HeadNorm norm = layer_.NormOf(layer_.k_norm, kv_head, factors, chunk.first_row + row);
                if (norm.gain != nullptr || layer_.rope != nullptr || !kIsFloat<T>) {
                  FinishRows(layer_.Padded(part, rows), norm,
                             RotationFrom(layer_, workspace_, first_key, rows),
                             layer_.Padded(finished, rows));
                }
                if (!layer_.distance_queries.empty()) {
                  ScoreDistances(sequence, first_key, rows, kv_head, finished, scratch);
                }
                TransposeKeys(sequence, first_key, rows, finished);
              });
  return true;
}

// What the keys have to say of each distance that occurs in their sequence.
template <typename T>
void KeyPacker<T>::ScoreDistances(int64_t sequence, int64_t first_key, int64_t num_keys, int64_t head,
                                  const T* rows, WorkerScratch& scratch) const {
  float* const out = KeyDistanceScores(sequence) + first_key * layer_.distance_cols;
  layer_.ScoreDistances(layer_.distance_queries, head,
                        std::max(batch_.q_len(sequence), batch_.kv_len(sequence)), rows, num_keys, out,
                        scratch.gemm.bytes());
}

// Keys [first_key, first_key + num_keys) of a sequence into its panels. first_key is a multiple of
// kPanelCols.
template <typename T>
void KeyPacker<T>::TransposeKeys(int64_t sequence, int64_t first_key, int64_t num_keys, const T* rows) const {
  const int64_t words = layer_.padded_head_dim * int64_t{sizeof(T)} / int64_t{sizeof(float)};
  for (int64_t done = 0; done < num_keys; done += kPanelCols) {
    const int64_t panel = (first_key + done) / kPanelCols;
    TransposeWords(rows + done * layer_.padded_head_dim, std::min(kPanelCols, num_keys - done), words, words,
                   Keys(sequence, panel), PanelWidth(sequence, panel));
  }
}

template <typename T>
bool KeyPacker<T>::PackValues(const KeyChunk& chunk, int64_t kv_head, WorkerScratch& scratch) const {
  // Values go to their places at once where those of the chunk follow each other.
  float* values = scratch.projected.floats();
  if constexpr (kIsFloat<T>) {
    bool in_place = true;
    float* first = nullptr;
    ForEachPart(batch_.cu_kv_lens, chunk.first_row, chunk.rows,
                [&](int64_t row, int64_t, int64_t sequence, int64_t first_key) {
                  float* const place = Values(sequence, first_key / kPanelCols);
                  if (row == 0) first = place;
                  in_place = in_place && place == first + row * layer_.padded_head_dim;
                });
    if (in_place) values = first;
  }
  const BatchInterruption interruption(*workspace_.arena, batch_.sequences, batch_.cu_kv_lens,
                                       chunk.first_row, chunk.rows);
  if (!layer_.project_v.Run(chunk.rows, workspace_.value.From(chunk.first_row), layer_.wv[kv_head], values,
                            scratch.gemm.bytes(), interruption, layer_.OfHead(layer_.bv, kv_head),
                            layer_.wq[kv_head * layer_.config.heads_per_kv_head()].PanelAhead(0))) {
    return false;
  }
  ForEachPart(batch_.cu_kv_lens, chunk.first_row, chunk.rows,
              [&](int64_t row, int64_t rows, int64_t sequence, int64_t first_key) {
                FinishValues(sequence, first_key, layer_.Padded(values + row * layer_.padded_head_dim, rows),
                             scratch);
              });
  return true;
}

// Rows of values, which may be in place already, into the panels from first_key on. Padding meets weights of
// zero, and 0 * garbage could be NaN, so it is zero too.
template <typename T>
void KeyPacker<T>::FinishValues(int64_t sequence, int64_t first_key, MutableMatrixView rows,
                                WorkerScratch& scratch) const {
  const int64_t width = layer_.padded_head_dim;
  for (int64_t done = 0; done < rows.rows; done += kPanelCols) {
    const int64_t panel = (first_key + done) / kPanelCols;
    const MutableMatrixView part =
        layer_.Padded(rows.Row(done), std::min<int64_t>(kPanelCols, rows.rows - done));
    memory_.not_finite.As<uint64_t>()[workspace_.plan.first_panel[sequence] + panel] =
        ClearRowsNotFinite(part);
    T* const out = Values(sequence, panel);
    const int64_t room = PanelWidth(sequence, panel);
    if constexpr (kIsFloat<T>) {
      if (part.data != out) std::copy_n(part.data, part.rows * width, out);
      std::fill(out + part.rows * width, out + room * width, 0.0f);
    } else {
      T* const finished = scratch.finished.As<T>();
      FinishRows(part, {}, {}, layer_.Padded(finished, part.rows));
      std::fill(finished + part.rows * width, finished + room * width, T{});
      InterleavePairs(finished, room, width, out);
    }
  }
}

template class KeyPacker<float>;
template class KeyPacker<Bf16>;

}  // namespace headlight
