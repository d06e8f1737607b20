// SPDX-License-Identifier: Apache-2.0
//
// Attention as an honest, slow kernel computes it: what the error bound must let through.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_PLAIN_ATTENTION_H_
#define HEADLIGHT_TESTS_CORE_TESTING_PLAIN_ATTENTION_H_

#include <vector>

#include "core/attention/config.h"
#include "tests/core/testing/test_problem.h"

namespace headlight::testing {

struct PlainResult {
  std::vector<float> output;   // [q_len, embed_dim]
  std::vector<float> weights;  // [num_heads, q_len, kv_len + appended keys]
};

// One sequence in the plainest f32, with the operands rounded that the precision rounds. Sums go from the
// first to the last. Of `sequence` the explicit mask is not looked at.
PlainResult AttendPlainly(const TestLayer& layer, const TestSequence& sequence, Precision precision);

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_PLAIN_ATTENTION_H_
