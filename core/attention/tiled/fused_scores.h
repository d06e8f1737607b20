// SPDX-License-Identifier: Apache-2.0
//
// q k^T and its exponentials in one loop, for panels of keys that every query of a block sees: while the
// product units work on one tile of 4 queries x 64 keys, the exponentials of the tile before are computed in
// the gaps, and no score reaches memory. AVX-512 only.
#ifndef HEADLIGHT_CORE_ATTENTION_TILED_FUSED_SCORES_H_
#define HEADLIGHT_CORE_ATTENTION_TILED_FUSED_SCORES_H_

#include <cstdint>

#include "core/tensor/bf16.h"

namespace headlight {

// Rows of queries that are worked on together; blocks are padded to a multiple of it.
constexpr int64_t kFusedRows = 4;

// T is float or Bf16.
template <typename T>
struct FusedScores {
  const T* queries = nullptr;  // [rows rounded up to kFusedRows, head_dim]
  // [num_panels] panels of 64 keys, each [head_dim, 64]; for Bf16 with pairs of rows interleaved.
  T* const* keys = nullptr;
  int64_t rows = 0;
  int64_t head_dim = 0;  // a multiple of kGranule<T>
  int64_t num_panels = 0;
  T* probabilities = nullptr;  // [rows rounded up, 64 * num_panels]: 2^(score - reference)
  int64_t probability_stride = 0;
  float* reference =
      nullptr;           // [rows rounded up]; where it is -inf, it becomes the maximum of the first panel
  float* sum = nullptr;  // [rows rounded up, kLanes], added to
  float* exponent_sum = nullptr;  // likewise, or null if it is not wanted; as in SoftmaxState
};

// For CPUs that have kVectorProvider's products of T.
void ScoreAndExp(const FusedScores<float>& block);
void ScoreAndExp(const FusedScores<Bf16>& block);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_TILED_FUSED_SCORES_H_
