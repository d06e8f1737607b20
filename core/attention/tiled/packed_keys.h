// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of one head on their way from the input to the panels that attention reads. A cache of keys
// would keep such panels instead of making them anew.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_PACKED_KEYS_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_PACKED_KEYS_H_

#include <algorithm>
#include <cstdint>
#include <span>

#include "core/attention/batch.h"
#include "core/attention/tiled/packed_layer.h"
#include "core/attention/tiled/work_plan.h"
#include "core/attention/tiled/workspace.h"

namespace headlight {

// One sequence and head, in panels of kPanelCols keys, wherever each of them lies. The last panel has fewer
// keys, a multiple of kGranule<T>. T is float or Bf16, for which pairs of rows are interleaved.
template <typename T>
struct KeyPanels {
  std::span<T* const> keys;    // each [padded head_dim, keys of the panel]
  std::span<T* const> values;  // each [keys of the panel, padded head_dim]
  // Bit k of entry p: a value of key p * kPanelCols + k is NaN or infinite. The panel has zeros in its place,
  // so that it harms nobody who does not see the key.
  std::span<uint64_t> not_finite;
  // The keys that the layer appends to those of every sequence, a panel of kGranule<T> keys; null if none
  // are.
  const T* appended_keys = nullptr;
  const T* appended_values = nullptr;
};

// Calls body(first of the rows, rows, sequence, first row inside the sequence) for each sequence's part of
// the rows [first_row, first_row + rows) of a batch.
template <typename Body>
void ForEachPart(std::span<const int64_t> cu_lens, int64_t first_row, int64_t rows, const Body& body) {
  int64_t sequence = std::upper_bound(cu_lens.begin(), cu_lens.end(), first_row) - cu_lens.begin() - 1;
  for (int64_t row = first_row; row < first_row + rows; ++sequence) {
    const int64_t end = std::min(first_row + rows, cu_lens[sequence + 1]);
    body(row - first_row, end - row, sequence, row - cu_lens[sequence]);
    row = end;
  }
}

// The angles of rows that stand at the positions first, first + 1, ...; none without RoPE.
template <typename T>
Rotation RotationFrom(const PackedLayer<T>& layer, const TiledWorkspace& workspace, int64_t first_position,
                      int64_t rows) {
  if (layer.rope == nullptr) return {};
  const bool in_layer = layer.rope->Holds(first_position, first_position + rows);
  return (in_layer ? *layer.rope : workspace.rope).From(first_position);
}

// Fills the panels of the sequences of one group, for one call of the layer.
template <typename T>
class KeyPacker {
 public:
  // `memory` has room for the group's keys; all must outlive the packer.
  KeyPacker(const PackedLayer<T>& layer, const AttentionBatch& batch, const TiledWorkspace& workspace,
            const SequenceGroup& group, const GroupMemory& memory);

  // Projects and packs a chunk of the group's keys and values. False where nobody waits for them any more;
  // they are then unfinished. Thread-safe for different chunks.
  bool Pack(const KeyChunk& chunk, int64_t kv_head, WorkerScratch& scratch) const;

  // With disentangled attention: of a sequence's keys, layer.distance_cols apart.
  float* KeyDistanceScores(int64_t sequence) const {
    return memory_.distance_scores.floats() + workspace_.plan.packed_key_row[sequence] * layer_.distance_cols;
  }

  // Of a sequence of the batch.
  KeyPanels<T> PanelsOf(int64_t sequence, int64_t kv_head) const;

 private:
  bool PackKeys(const KeyChunk& chunk, int64_t kv_head, WorkerScratch& scratch) const;
  bool PackValues(const KeyChunk& chunk, int64_t kv_head, WorkerScratch& scratch) const;
  void ScoreDistances(int64_t sequence, int64_t first_key, int64_t num_keys, int64_t head, const T* rows,
                      WorkerScratch& scratch) const;
  void TransposeKeys(int64_t sequence, int64_t first_key, int64_t num_keys, const T* rows) const;
  void FinishValues(int64_t sequence, int64_t first_key, MutableMatrixView rows,
                    WorkerScratch& scratch) const;
  T* Keys(int64_t sequence, int64_t panel) const {
    return memory_.key_panels.As<T*>()[workspace_.plan.first_panel[sequence] + panel];
  }
  T* Values(int64_t sequence, int64_t panel) const {
    return memory_.value_panels.As<T*>()[workspace_.plan.first_panel[sequence] + panel];
  }
  // Keys that a panel of the sequence has room for.
  int64_t PanelWidth(int64_t sequence, int64_t panel) const {
    return std::min(kPanelCols, RoundUp(batch_.kv_len(sequence), kGranule<T>) - panel * kPanelCols);
  }

  const PackedLayer<T>& layer_;
  const AttentionBatch& batch_;
  const TiledWorkspace& workspace_;
  const GroupMemory& memory_;
};

extern template class KeyPacker<float>;
extern template class KeyPacker<Bf16>;

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_PACKED_KEYS_H_
