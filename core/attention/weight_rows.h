// SPDX-License-Identifier: Apache-2.0
//
// What is made of rows of attention weights: scaled copies, sums, largest entries, statistics. Each row is
// worked on by itself. T is float or Bf16.
#ifndef HEADLIGHT_CORE_ATTENTION_WEIGHT_ROWS_H_
#define HEADLIGHT_CORE_ATTENTION_WEIGHT_ROWS_H_

#include <cstdint>

#include "core/attention/batch.h"
#include "core/tensor/bf16.h"

namespace headlight {

// out = in * factor, over n elements. No alignment needed.
void ScaleTo(const float* in, int64_t n, float factor, float* out);
void ScaleTo(const Bf16* in, int64_t n, float factor, float* out);

// The same past the caches, for results that nobody reads soon. Other threads see them after FinishStreams on
// this one.
void StreamTo(const float* in, int64_t n, float factor, float* out);
void StreamTo(const Bf16* in, int64_t n, float factor, float* out);
void FinishStreams();

// out += in * factor, over n elements.
void ScaleAndAdd(const float* in, int64_t n, float factor, float* out);
void ScaleAndAdd(const Bf16* in, int64_t n, float factor, float* out);

// The k largest weights above 0 of a row of n, best first, equal ones in the order of their keys; the rest is
// weight 0, key -1.
void SelectTopK(const float* row, int64_t n, int64_t k, float* weights, int32_t* keys);

// Sums over queries; see HeadStatistic.
struct SummarySums {
  double statistics[kNumHeadStatistics] = {};
  int64_t num_queries = 0;  // those that had an allowed key
};

// Adds one query's weights: `num_keys` of them, the first kv_len those of the sequence's own keys; `position`
// is the query's among them and may lie outside. Also adds the weights to received_mass [num_keys].
void AddToSummary(const float* row, int64_t num_keys, int64_t kv_len, int64_t position, SummarySums& sums,
                  float* received_mass);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_WEIGHT_ROWS_H_
