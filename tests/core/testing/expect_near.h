// SPDX-License-Identifier: Apache-2.0
//
// Holds the results in a TestBatch against the double-precision reference.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_EXPECT_NEAR_H_
#define HEADLIGHT_TESTS_CORE_TESTING_EXPECT_NEAR_H_

#include <vector>

#include "tests/core/testing/test_problem.h"

namespace headlight::testing {

// Largest |value - expected| / bound over the elements; infinity where a value is NaN and the expected one is
// not, or the other way round.
double WorstErrorRatio(const std::vector<float>& values, const std::vector<double>& expected,
                       const std::vector<double>& bounds);

// Expects the outputs and weights in `computed` within F32ErrorBound of the reference, rows of weights to sum
// to 1 or, for queries without an allowed key, to be zero, and everything outside of the results untouched.
// Reports the largest error of the process so far, as a fraction of its bound, in the test's properties
// ("worst_error_ratio").
void ExpectNearReference(const TestLayer& layer, const TestBatch& computed);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_EXPECT_NEAR_H_
