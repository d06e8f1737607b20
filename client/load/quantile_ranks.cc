// SPDX-License-Identifier: Apache-2.0
#include "client/load/quantile_ranks.h"

#include <algorithm>
#include <cmath>

namespace headlight::client {

QuantileRanks QuantileRanks95(int64_t count, double share) {
  constexpr double kTail = 0.025;
  const double n = static_cast<double>(count);
  // What lies this many standard deviations below the mean is too little to count.
  const double begin = std::floor(n * share - 12 * std::sqrt(n * share * (1 - share)) - 12);
  int64_t below = std::max<int64_t>(0, static_cast<int64_t>(begin));
  double k = static_cast<double>(below);
  double probability = std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) +
                                k * std::log(share) + (n - k) * std::log1p(-share));
  double sum = probability;  // of being at most `below`
  QuantileRanks ranks{.low = 0, .high = count + 1};
  while (sum <= kTail && below < count) {
    probability *= (n - k) / (k + 1) * (share / (1 - share));
    k = static_cast<double>(++below);
    sum += probability;
  }
  ranks.low = below;
  while (sum < 1 - kTail && below < count) {
    probability *= (n - k) / (k + 1) * (share / (1 - share));
    k = static_cast<double>(++below);
    sum += probability;
  }
  ranks.high = std::min(count, below) + 1;
  return ranks;
}

}  // namespace headlight::client
