// SPDX-License-Identifier: Apache-2.0
//
// How far a percentile of a sample may be from that of what was sampled, without assuming a distribution.
#ifndef HEADLIGHT_CLIENT_LOAD_QUANTILE_RANKS_H_
#define HEADLIGHT_CLIENT_LOAD_QUANTILE_RANKS_H_

#include <cstdint>

namespace headlight::client {

// Ranks within a sorted sample, counted from 1.
struct QuantileRanks {
  int64_t low;   // 0: no value of the sample is surely low enough
  int64_t high;  // one more than the sample has: none is surely high enough
};

// Ranks between which the true quantile lies with a probability of at least 95 %, of `count` independent
// values; `share`, within (0, 1), is that of the values below the quantile. How many of them are below it is
// binomial; each side leaves out at most 2.5 %. Takes time of the square root of `count`.
QuantileRanks QuantileRanks95(int64_t count, double share);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_QUANTILE_RANKS_H_
