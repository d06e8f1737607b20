// SPDX-License-Identifier: Apache-2.0
#include "client/report/load_goals.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace headlight::client {

std::optional<double> GoalValueMs(const SearchGoal& goal, const LoadResult& result) {
  const int64_t total = result.replies() + result.refused() + result.unfinished + result.unsent;
  if (total == 0) return std::nullopt;
  const double share = goal.percentile.percent / 100 * (1 - 1e-12);  // 99 % of 100 is rank 99
  const auto rank = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(share * static_cast<double>(total))));
  if (rank > result.replies()) return std::nullopt;
  return static_cast<double>(result.intended.AtRank(rank).count()) / 1e6;
}

}  // namespace headlight::client
