// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/error_bound.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/attention/reference.h"
#include "tests/core/testing/expect_near.h"
#include "tests/core/testing/plain_attention.h"
#include "tests/core/testing/test_problem.h"

namespace headlight::testing {
namespace {

using Floats = std::vector<float>;

// A sequence, its reference and its bound.
struct BoundedProblem {
  BoundedProblem(const TestLayer& layer, const TestSequence& sequence, Precision precision) {
    const TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kNone);
    reference = ReferenceAttention(layer.config, layer.weights, batch.batch()).front();
    bound = BoundErrors(layer, batch.batch(), 0, reference, precision);
  }
  double OutputRatio(const Floats& output) const {
    return WorstErrorRatio(output, reference.output, bound.output);
  }
  double WeightsRatio(const Floats& weights) const {
    return WorstErrorRatio(weights, reference.weights, bound.weights);
  }
  ReferenceResult reference;
  ErrorBound bound;
};

double MaxAbs(const std::vector<double>& values) {
  double max = 0.0;
  for (double value : values) max = std::max(max, std::abs(value));
  return max;
}

class ErrorBoundTest : public ::testing::TestWithParam<Precision> {};

INSTANTIATE_TEST_SUITE_P(Precisions, ErrorBoundTest,
                         ::testing::Values(Precision::kF32, Precision::kBf16, Precision::kInt8),
                         [](const auto& info) { return std::string(Name(info.param)); });

TEST_P(ErrorBoundTest, LetsPlainComputationsThrough) {
  for (int i = 0; i < Repetitions(24); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    TestLayer layer = RandomLayer(rng, kHeadDims[i % std::size(kHeadDims)]);
    if (i % 2 == 0) AddRandomSemantics(rng, layer);
    const float amplitude = i % 4 < 2 ? 1.0f : 12.0f;
    TestSequence sequence =
        RandomInputs(rng, layer.config, UniformInt(rng, 1, 40), UniformInt(rng, 1, 80), amplitude);
    sequence.visibility.causal = OneIn(rng, 2);
    SCOPED_TRACE(Describe(layer.config) + "; " + Describe(sequence));
    const PlainResult plain = AttendPlainly(layer, sequence, GetParam());
    const BoundedProblem problem(layer, sequence, GetParam());
    EXPECT_LE(problem.OutputRatio(plain.output), 1.0);
    EXPECT_LE(problem.WeightsRatio(plain.weights), 1.0);
    for (size_t j = 0; j < plain.weights.size(); ++j) {
      EXPECT_GE(plain.weights[j], problem.bound.least_weights[j]);
    }
  }
}

TEST_P(ErrorBoundTest, IsSmallForOrdinaryInputs) {
  const bool is_f32 = GetParam() == Precision::kF32;
  const double limit = is_f32 ? 1e-3 : 0.5;
  for (int i = 0; i < Repetitions(10); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, 64);
    const TestSequence sequence = RandomInputs(rng, layer.config, 20, is_f32 ? 50 : 6);
    SCOPED_TRACE(Describe(layer.config));
    const BoundedProblem problem(layer, sequence, GetParam());
    EXPECT_LT(MaxAbs(problem.bound.output), limit * MaxAbs(problem.reference.output));
    EXPECT_LT(MaxAbs(problem.bound.weights), limit * MaxAbs(problem.reference.weights));
  }
}

// What a kernel may get wrong, and the bound has to find whatever the precision.
TEST_P(ErrorBoundTest, CatchesSwappedHeads) {
  for (int i = 0; i < Repetitions(10); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const AttentionConfig config = AttentionConfig{.embed_dim = 64, .num_heads = 4}.Resolved();
    const TestLayer layer = {config, RandomParameters(config, i)};
    const TestSequence sequence = RandomInputs(rng, config, 5, 10);
    TestLayer swapped = layer;  // the first two heads read each other's queries, and write for each other
    for (int64_t row = 0; row < 64; ++row) {
      const auto first = swapped.weights.wq.begin() + row * 64;
      std::swap_ranges(first, first + 16, first + 16);
    }
    const auto first = swapped.weights.wo.begin();
    std::swap_ranges(first, first + 16 * 64, first + 16 * 64);
    const PlainResult plain = AttendPlainly(swapped, sequence, GetParam());
    const BoundedProblem problem(layer, sequence, GetParam());
    EXPECT_GT(problem.WeightsRatio(plain.weights), 1.0);
    EXPECT_GT(problem.OutputRatio(plain.output), 1.0);
  }
}

TEST_P(ErrorBoundTest, CatchesAMissingMask) {
  for (int i = 0; i < Repetitions(10); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, 64);
    TestSequence sequence = RandomInputs(rng, layer.config, 12, 12);
    const PlainResult plain = AttendPlainly(layer, sequence, GetParam());
    sequence.visibility.causal = true;
    const BoundedProblem problem(layer, sequence, GetParam());
    EXPECT_GT(problem.OutputRatio(plain.output), 1.0) << Describe(layer.config);
  }
}

TEST_P(ErrorBoundTest, CatchesAMissingRotation) {
  for (int i = 0; i < Repetitions(10); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    TestLayer layer = RandomLayer(rng, 64);
    layer.config.scale.reset();
    layer.config = layer.config.Resolved();
    const TestSequence sequence = RandomInputs(rng, layer.config, 12, 12, 2.0f);
    const PlainResult plain = AttendPlainly(layer, sequence, GetParam());
    layer.config.rope = RopeConfig{.rotary_dim = 64};
    const BoundedProblem problem(layer, sequence, GetParam());
    EXPECT_GT(problem.WeightsRatio(plain.weights), 1.0) << Describe(layer.config);
  }
}

// Attending to one key too few or too many is the kind of mistake that the bound has to find: among many in
// f32, among few in the others.
TEST_P(ErrorBoundTest, CatchesAMissingKey) {
  const int64_t kv_len = GetParam() == Precision::kF32 ? 200 : 4;
  for (int i = 0; i < Repetitions(10); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, 64);
    const TestSequence sequence = RandomInputs(rng, layer.config, 5, kv_len);
    TestSequence shortened = sequence;
    shortened.kv_len -= 1;
    shortened.key.resize(shortened.kv_len * layer.config.kdim);
    shortened.value.resize(shortened.kv_len * layer.config.vdim);
    const BoundedProblem problem(layer, sequence, GetParam());
    EXPECT_GT(problem.OutputRatio(AttendPlainly(layer, shortened, GetParam()).output), 1.0)
        << Describe(layer.config);
  }
}

TEST(WorstErrorRatioTest, ComparesWithTheBounds) {
  EXPECT_DOUBLE_EQ(WorstErrorRatio({1.0f, 2.5f}, {1.5, 2.0}, {1.0, 0.25}), 2.0);
}

TEST(WorstErrorRatioTest, FindsNansThatAreNotExpected) {
  const float nan = std::nanf("");
  EXPECT_GT(WorstErrorRatio({nan}, {1.0}, {1.0}), 1.0);
  EXPECT_GT(WorstErrorRatio({1.0f}, {nan}, {1.0}), 1.0);
  EXPECT_EQ(WorstErrorRatio({nan}, {nan}, {nan}), 0.0);
}

}  // namespace
}  // namespace headlight::testing
