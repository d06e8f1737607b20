// SPDX-License-Identifier: Apache-2.0
//
// How far a head's statistics may be from the reference's, given how far its weights may be.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_SUMMARY_BOUND_H_
#define HEADLIGHT_TESTS_CORE_TESTING_SUMMARY_BOUND_H_

#include <cstdint>

#include "core/attention/reference.h"
#include "tests/core/testing/error_bound.h"

namespace headlight::testing {

// Bounds |computed statistic - Summarize(...)|, statistic by statistic. For one query, with weights p_j known
// to lie in [l_j, h_j], h_j = p_j + e_j, l_j = max(p_j - e_j, least weight, 0), and n keys:
//   entropy            sum_j max over the corners (a, b) of [l_j, h_j]^2 of |a ln b - p_j ln p_j|: a weight,
//   and a
//                      logarithm which may come from the score rather than from the weight. Logarithms are
//                      off by 2^-21, relative and absolute:  + sum_j h_j (1 - ln h_j) 2^-21
//   distance           sum_j e_j |position - j|
//   max_weight         max(max_j h_j - max_j p_j, max_j p_j - max_j l_j)
//   self, first token  e_j of that key
//   effective support  1 / sum_j l_j^2 - 1 / sum_j p_j^2, which is more than what h_j^2 gives
//   received_mass      e_j
// Sums over keys add S = SumErrorBound(n + 4) of their terms' magnitudes, and the mean over N queries (for
// received_mass their sum) as much for N + 4 terms.
HeadSummary BoundSummary(const ReferenceResult& reference, const ErrorBound& bound, int64_t head,
                         int64_t query_begin, int64_t query_end);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_SUMMARY_BOUND_H_
