// SPDX-License-Identifier: Apache-2.0
//
// The highest rate at which a server still meets a latency goal.
#ifndef HEADLIGHT_CLIENT_LOAD_RATE_SEARCH_H_
#define HEADLIGHT_CLIENT_LOAD_RATE_SEARCH_H_

#include <functional>
#include <optional>
#include <vector>

namespace headlight::client {

struct SearchStep {
  double rate = 0;                 // per second
  std::optional<double> value_ms;  // nothing: so many requests failed that the percentile is one of them
  bool met = false;
};

struct SearchLimits {
  double first_rate = 100;
  double min_rate = 0.1;
  double max_rate = 1e6;
  double precision = 0.05;  // stops once the rate is known to this share
  int max_steps = 30;
};

struct SearchResult {
  std::optional<double> best_rate;  // the highest that met the goal; nothing if none did
  std::vector<SearchStep> steps;    // in the order they were tried
};

// Doubles the rate until the goal is missed, or halves it until it is met, then bisects in between. `measure`
// runs at a rate and says what came out; nothing ends the search with what is known.
SearchResult SearchRate(const SearchLimits& limits,
                        const std::function<std::optional<SearchStep>(double rate)>& measure);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_LOAD_RATE_SEARCH_H_
