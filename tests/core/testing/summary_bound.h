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
//                      and a logarithm which may come from the score rather than from the weight. Logarithms
//                      are off by 2^-21, relative and absolute:  + sum_j h_j (1 - ln h_j) 2^-21
//                      The sum may be taken as ln sum_j e^(s_j - m) - sum_j p_j (s_j - m), where m is the
//                      score of a key of the row, at most 2^64 below the largest one, M (error_bound.h), and
//                      may have risen R = 2 + n / 64 times with three roundings each. With D the largest of
//                      ln(p_M / p_j) up to 64 ln 2 its terms' magnitudes are at most
//                      A = sum_j p_j ln(p_M / p_j) + ln n + 2 D, so that it is off by SumErrorBound(n + 3 R +
//                      8) A, which is more than what a sum of p_j ln p_j is off by
//   distance           sum_j e_j |position - j|
//   max_weight         max(max_j h_j - max_j p_j, max_j p_j - max_j l_j)
//   self, first token  e_j of that key
//   effective support  1 / sum_j l_j^2 - 1 / sum_j p_j^2, which is more than what h_j^2 gives
//   received_mass      e_j
// The other sums over keys add S = SumErrorBound(n + 4) of their terms' magnitudes, and the mean over N
// queries (for received_mass their sum) as much for N + 4 terms.
HeadSummary BoundSummary(const ReferenceResult& reference, const ErrorBound& bound, int64_t head,
                         int64_t query_begin, int64_t query_end);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_SUMMARY_BOUND_H_
