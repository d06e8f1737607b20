// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/expect_near.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "core/attention/reference.h"
#include "tests/core/testing/error_bound.h"

namespace headlight::testing {
namespace {

// Weights of one sequence as the reference has them, for whichever mode the batch asked.
void ExpectWeightsNear(const TestLayer& layer, const TestBatch& computed, int64_t sequence,
                       const ReferenceResult& reference, const ErrorBound& bound) {
  const std::vector<float> weights = computed.Weights(sequence);
  if (weights.empty()) return;
  const bool full = computed.batch().sequences[sequence].weights.mode == WeightsSink::Mode::kFull;
  const std::vector<double> expected =
      full ? reference.weights : MeanWeights(reference, layer.config.num_heads);
  EXPECT_LE(WorstErrorRatio(weights, expected, full ? bound.weights : bound.mean), 1.0) << "in the weights";
  if (!full) return;
  for (size_t row = 0; row < weights.size() / reference.kv_len; ++row) {
    const auto begin = weights.begin() + row * reference.kv_len;
    const auto expected_begin = expected.begin() + row * reference.kv_len;
    const double expected_sum = std::accumulate(expected_begin, expected_begin + reference.kv_len, 0.0);
    const double sum = std::accumulate(begin, begin + reference.kv_len, 0.0);
    if (std::isnan(expected_sum)) continue;  // WorstErrorRatio has compared it
    EXPECT_NEAR(sum, std::round(expected_sum), expected_sum == 0 ? 0.0 : bound.row_sum) << "in row " << row;
  }
}

}  // namespace

double WorstErrorRatio(const std::vector<float>& values, const std::vector<double>& expected,
                       const std::vector<double>& bounds) {
  if (values.size() != expected.size() || values.size() != bounds.size()) {
    ADD_FAILURE() << values.size() << " values, " << expected.size() << " expected, " << bounds.size()
                  << " bounds";
    return std::numeric_limits<double>::infinity();
  }
  double worst = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(values[i])) continue;
    const double ratio = std::abs(values[i] - expected[i]) / bounds[i];
    if (std::isnan(ratio)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, ratio);
  }
  return worst;
}

void ExpectNearReference(const TestLayer& layer, const TestBatch& computed) {
  EXPECT_TRUE(computed.MarksIntact()) << "something was written outside of the results";
  const std::vector<ReferenceResult> references =
      ReferenceAttention(layer.config, layer.weights, computed.batch());
  static double worst_ratio = 0.0;
  for (int64_t s = 0; s < computed.batch().num_sequences(); ++s) {
    SCOPED_TRACE(::testing::Message() << "sequence " << s);
    const ErrorBound bound = F32ErrorBound(layer, computed.batch(), s, references[s]);
    const double ratio = WorstErrorRatio(computed.Output(s), references[s].output, bound.output);
    EXPECT_LE(ratio, 1.0) << "in the output";
    ExpectWeightsNear(layer, computed, s, references[s], bound);
    worst_ratio = std::max(worst_ratio, ratio);
  }
  ::testing::Test::RecordProperty("worst_error_ratio", std::to_string(worst_ratio));
}

}  // namespace headlight::testing
