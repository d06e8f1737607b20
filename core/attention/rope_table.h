// SPDX-License-Identifier: Apache-2.0
//
// Cosines and sines of rotary angles, times RopeConfig::magnitude, position by position. Computed in double,
// so that a row's bits depend on its position alone.
#ifndef HEADLIGHT_CORE_ATTENTION_ROPE_TABLE_H_
#define HEADLIGHT_CORE_ATTENTION_ROPE_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/functional/function_ref.h"
#include "core/attention/position.h"
#include "core/runtime/compute_arena.h"
#include "core/tensor/buffer.h"

namespace headlight {

// Cosines and sines of a row's rotary angles; null where there is no RoPE. Row r of the rows that it comes
// with reads cos + r * num_pairs and sin + r * num_pairs.
struct Rotation {
  const float* cos = nullptr;
  const float* sin = nullptr;
  int64_t num_pairs = 0;     // of turning dimensions, the leading ones
  bool interleaved = false;  // pairs are (2i, 2i + 1); else (i, i + num_pairs)
};

// Of a model, made when it is loaded, it holds the positions that most sequences have and never changes; what
// lies beyond, a workspace's own one grows to.
class RopeTable {
 public:
  // Positions that a model's table holds.
  static constexpr int64_t kPositions = 8192;

  RopeTable() = default;
  // The positions [0, kPositions), made by all threads that compute. Throws std::bad_alloc.
  explicit RopeTable(const RopeConfig& rope);

  // Makes the positions [begin, end) available, on the threads of `arena`; for another `rope` than before it
  // begins anew. False when memory is short. Not thread-safe.
  bool Reserve(const RopeConfig& rope, int64_t begin, int64_t end, ComputeArena& arena);

  // Whether the positions [begin, end) are there.
  bool Holds(int64_t begin, int64_t end) const { return begin >= begin_ && end <= end_; }

  // For rows that stand at the positions first, first + 1, ...
  Rotation From(int64_t first_position) const;

  // What a model's table holds.
  static int64_t ModelBytes(const RopeConfig& rope);
  int64_t size_bytes() const { return cos_.size_bytes() + sin_.size_bytes(); }
  // What Reserve takes more than is held.
  int64_t GrowthFor(const RopeConfig& rope, int64_t begin, int64_t end) const;
  // A buffer that is given back is filled again by the next Reserve.
  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit);

 private:
  void Fill(ComputeArena& arena) const;

  std::optional<RopeConfig> rope_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
  Buffer cos_;  // [end - begin, pairs]
  Buffer sin_;
};

// A model's table: the one that somebody in this process still holds, or a new one. Thread-safe. Throws
// std::bad_alloc.
std::shared_ptr<const RopeTable> SharedRopeTable(const RopeConfig& rope);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_ROPE_TABLE_H_
