// SPDX-License-Identifier: Apache-2.0
//
// Attention weights on request: takes the tiles that the online softmax leaves behind and turns them into
// probabilities once the final maxima and sums are known.
#ifndef HEADLIGHT_CORE_ATTENTION_WEIGHTS_WRITER_H_
#define HEADLIGHT_CORE_ATTENTION_WEIGHTS_WRITER_H_

#include <cstdint>

#include "core/attention/batch.h"
#include "core/attention/row_ops.h"
#include "core/attention/work_plan.h"

namespace headlight {

// Memory of a writer; see the sizes.
struct WeightsScratch {
  float* tile_max = nullptr;   // [tiles of a row, kQueryBlockRows]
  float* mean_rows = nullptr;  // [kQueryBlockRows, kv_len]; for WeightsSink::Mode::kMean only
};

// The weights of one block of queries and one head.
class WeightsWriter {
 public:
  // Heads of one block must come in order: the mean is summed up in the sink.
  WeightsWriter(const WeightsSink& sink, int64_t head, int64_t num_heads, int64_t kv_len,
                const QueryBlock& block, const WeightsScratch& scratch);

  // Takes 2^(score - row_max) of a tile, keys in order, no gaps. Copies.
  void AddTile(const ScoreTile& tile, const float* row_max);

  // Writes the block's rows of the sink, all kv_len keys; those that no tile covered are zero.
  void Finish(const SoftmaxState& state);

 private:
  float* Row(int64_t row) const;

  const WeightsSink& sink_;
  const int64_t head_;
  const int64_t num_heads_;
  const int64_t kv_len_;
  const QueryBlock& block_;
  const WeightsScratch scratch_;
  int64_t num_tiles_ = 0;
  int64_t first_key_ = 0;  // of the first tile
  int64_t end_key_ = 0;    // of the last tile
};

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_WEIGHTS_WRITER_H_
