// SPDX-License-Identifier: Apache-2.0
//
// The statistics of attention weights, straight from the exponentials that a block's softmax leaves behind.
// T is float or Bf16.
#ifndef HEADLIGHT_CORE_ATTENTION_MAPS_MAP_SUMMARY_H_
#define HEADLIGHT_CORE_ATTENTION_MAPS_MAP_SUMMARY_H_

#include <cstdint>

#include "core/attention/batch.h"
#include "core/attention/maps/map_rows.h"
#include "core/tensor/bf16.h"

namespace headlight {

// Sums over queries; see HeadStatistic.
struct SummarySums {
  double statistics[kNumHeadStatistics] = {};
  int64_t num_queries = 0;  // those that had an allowed key
};

// Which rows of a block count, and what is known about them.
struct SummaryRows {
  int64_t first_row = 0;  // of the block
  int64_t end_row = 0;
  int64_t first_position = 0;  // of the block's row 0 among the keys; may lie outside
  int64_t kv_len = 0;          // the sequence's own keys
  // [rows of the block], l and E: the sum of the exponentials e = 2^x, and that of e x. A row's entropy is
  // log2 l - E / l, in units of log2.
  const float* sums = nullptr;
  const float* exponent_sums = nullptr;
};

// Adds the rows' statistics to `sums` and their weights to received_mass [keys of the sequence].
void AddToSummary(const WeightTiles<float>& tiles, const SummaryRows& rows, SummarySums& sums,
                  float* received_mass);
void AddToSummary(const WeightTiles<Bf16>& tiles, const SummaryRows& rows, SummarySums& sums,
                  float* received_mass);

}  // namespace headlight

#endif  // HEADLIGHT_CORE_ATTENTION_MAPS_MAP_SUMMARY_H_
