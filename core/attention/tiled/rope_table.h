// SPDX-License-Identifier: Apache-2.0
//
// Cosines and sines of rotary angles, position by position. Computed in double, so that a row's bits depend
// on its position alone.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_ROPE_TABLE_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_ROPE_TABLE_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/attention/config.h"
#include "core/attention/tiled/packing.h"
#include "core/tensor/buffer.h"

namespace headlight {

// Grows to the positions that batches use and keeps them. Not thread-safe while it grows.
class RopeTable {
 public:
  // Makes the positions [begin, end) available. False when memory is short.
  bool Reserve(const RopeConfig& rope, int64_t begin, int64_t end);

  // What tables hold at most that have been asked for so many positions.
  static int64_t Bytes(const RopeConfig& rope, int64_t positions);
  // A buffer that is given back is filled again by the next Reserve.
  void ForEachBuffer(absl::FunctionRef<void(Buffer&)> visit);

  // For rows that stand at the positions first, first + 1, ...
  Rotation From(int64_t first_position) const;

 private:
  int64_t begin_ = 0;
  int64_t end_ = 0;
  bool interleaved_ = false;
  std::vector<double> frequencies_;  // radians per position, one for each pair
  Buffer cos_;                       // [end - begin, pairs]
  Buffer sin_;
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_ROPE_TABLE_H_
