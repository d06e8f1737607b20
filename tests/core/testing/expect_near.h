// SPDX-License-Identifier: Apache-2.0
//
// Holds the results in a TestBatch against the double-precision reference.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_EXPECT_NEAR_H_
#define HEADLIGHT_TESTS_CORE_TESTING_EXPECT_NEAR_H_

#include <vector>

#include "core/attention/config.h"
#include "tests/core/testing/test_problem.h"

namespace headlight::testing {

// Largest |value - expected| / bound over the elements; infinity where a value is NaN and the expected one is
// not, or the other way round.
double WorstErrorRatio(const std::vector<float>& values, const std::vector<double>& expected,
                       const std::vector<double>& bounds);

// Expects the results in `computed` within BoundErrors of the reference, and everything outside of them
// untouched:
//   output, kFull, kMean  element by element; rows of kFull sum to 1, or are 0 for queries without an allowed
//   key kTopK                 each weight near the reference's weight of its key, and between what the
//   largest weights
//                         can be at the ends of their bounds; no key twice; key -1 with weight 0, at the end
//                         of a row, and only where so few weights need be above 0. Rows that are NaN are not
//                         looked at.
//   kSummary              statistic by statistic within BoundSummary
//   kGrid                 cell by cell
// Reports the largest error of an output of the process so far, as a fraction of its bound, in the test's
// properties ("worst_error_ratio").
void ExpectNearReference(const TestLayer& layer, const TestBatch& computed, Precision precision);
inline void ExpectNearReference(const TestLayer& layer, const TestBatch& computed) {
  ExpectNearReference(layer, computed, layer.config.precision);
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_EXPECT_NEAR_H_
