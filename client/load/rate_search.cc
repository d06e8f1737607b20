// SPDX-License-Identifier: Apache-2.0
#include "client/load/rate_search.h"

#include <algorithm>
#include <cmath>

namespace headlight::client {

SearchResult SearchRate(const SearchLimits& limits,
                        const std::function<std::optional<SearchStep>(double rate)>& measure) {
  SearchResult result;
  std::optional<double> missed;  // the lowest rate that missed the goal
  double rate = std::clamp(limits.first_rate, limits.min_rate, limits.max_rate);
  while (static_cast<int>(result.steps.size()) < limits.max_steps) {
    const std::optional<SearchStep> step = measure(rate);
    if (!step) break;
    result.steps.push_back(*step);
    if (step->met) {
      result.best_rate = rate;
    } else {
      missed = rate;
    }
    if (!missed) {
      if (rate >= limits.max_rate) break;
      rate = std::min(2 * rate, limits.max_rate);
    } else if (!result.best_rate) {
      if (rate <= limits.min_rate) break;
      rate = std::max(rate / 2, limits.min_rate);
    } else {
      if (*missed <= *result.best_rate * (1 + limits.precision)) break;
      rate = std::sqrt(*missed * *result.best_rate);
    }
  }
  return result;
}

}  // namespace headlight::client
