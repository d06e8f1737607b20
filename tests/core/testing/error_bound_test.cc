// SPDX-License-Identifier: Apache-2.0
#include "tests/core/testing/error_bound.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/attention/reference.h"
#include "tests/core/testing/expect_near.h"
#include "tests/core/testing/test_problem.h"

namespace headlight::testing {
namespace {

using Floats = std::vector<float>;

// x [rows, in] w [in, out] + bias, in f32, summed from the first to the last.
Floats ProjectF32(const Floats& x, int64_t in, const Floats& w, int64_t out, const Floats& bias) {
  const int64_t rows = x.size() / in;
  Floats y(rows * out);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t o = 0; o < out; ++o) {
      float sum = bias.empty() ? 0.0f : bias[o];
      for (int64_t i = 0; i < in; ++i) sum += x[row * in + i] * w[i * out + o];
      y[row * out + o] = sum;
    }
  }
  return y;
}

// The layer in the plainest f32, without masks: the honest computation that the bound must let through.
struct F32Result {
  Floats output;
  Floats weights;
};

F32Result AttendF32(const TestLayer& layer, const TestSequence& s) {
  const AttentionConfig& c = layer.config;
  const Floats q = ProjectF32(s.query, c.embed_dim, layer.weights.wq, c.q_width(), layer.weights.bq);
  const Floats k = ProjectF32(s.key, c.kdim, layer.weights.wk, c.kv_width(), layer.weights.bk);
  const Floats v = ProjectF32(s.value, c.vdim, layer.weights.wv, c.kv_width(), layer.weights.bv);
  Floats attended(s.q_len * c.q_width(), 0.0f);
  F32Result result;
  for (int64_t head = 0; head < c.num_heads; ++head) {
    const int64_t kv_offset = head / c.heads_per_kv_head() * c.head_dim;
    for (int64_t query = 0; query < s.q_len; ++query) {
      const int64_t q_offset = query * c.q_width() + head * c.head_dim;
      Floats p(s.kv_len, 0.0f);
      for (int64_t key = 0; key < s.kv_len; ++key) {
        for (int64_t d = 0; d < c.head_dim; ++d)
          p[key] += q[q_offset + d] * k[key * c.kv_width() + kv_offset + d];
        p[key] *= static_cast<float>(*c.scale);
      }
      const float max = *std::max_element(p.begin(), p.end());
      float sum = 0.0f;
      for (float& e : p) sum += e = std::exp(e - max);
      for (int64_t key = 0; key < s.kv_len; ++key) {
        p[key] /= sum;
        for (int64_t d = 0; d < c.head_dim; ++d) {
          attended[q_offset + d] += p[key] * v[key * c.kv_width() + kv_offset + d];
        }
      }
      result.weights.insert(result.weights.end(), p.begin(), p.end());
    }
  }
  result.output = ProjectF32(attended, c.q_width(), layer.weights.wo, c.embed_dim, layer.weights.bo);
  return result;
}

// A sequence, its reference and its bound.
struct BoundedProblem {
  BoundedProblem(const TestLayer& layer, const TestSequence& sequence) {
    const TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kNone);
    reference = ReferenceAttention(layer.config, layer.weights, batch.batch()).front();
    bound = F32ErrorBound(layer, batch.batch(), 0, reference);
  }
  ReferenceResult reference;
  ErrorBound bound;
};

double MaxAbs(const std::vector<double>& values) {
  double max = 0.0;
  for (double value : values) max = std::max(max, std::abs(value));
  return max;
}

TEST(ErrorBoundTest, LetsPlainF32Through) {
  for (int i = 0; i < Repetitions(40); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, kHeadDims[i % std::size(kHeadDims)]);
    const float amplitude = i % 2 == 0 ? 1.0f : 12.0f;
    const TestSequence sequence =
        RandomInputs(rng, layer.config, UniformInt(rng, 1, 40), UniformInt(rng, 1, 80), amplitude);
    SCOPED_TRACE(Describe(layer.config) + "; " + Describe(sequence));
    const F32Result result = AttendF32(layer, sequence);
    const BoundedProblem problem(layer, sequence);
    EXPECT_LE(WorstErrorRatio(result.output, problem.reference.output, problem.bound.output), 1.0);
    EXPECT_LE(WorstErrorRatio(result.weights, problem.reference.weights, problem.bound.weights), 1.0);
  }
}

TEST(ErrorBoundTest, IsSmallForOrdinaryInputs) {
  for (int i = 0; i < Repetitions(10); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, 64);
    const TestSequence sequence = RandomInputs(rng, layer.config, 20, 50);
    SCOPED_TRACE(Describe(layer.config));
    const BoundedProblem problem(layer, sequence);
    EXPECT_LT(MaxAbs(problem.bound.output), 1e-3 * MaxAbs(problem.reference.output));
    EXPECT_LT(MaxAbs(problem.bound.weights), 1e-3 * MaxAbs(problem.reference.weights));
  }
}

// Attending to one key too few or too many is the kind of mistake that the bound has to find.
TEST(ErrorBoundTest, CatchesAMissingKey) {
  for (int i = 0; i < Repetitions(10); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, 64);
    const TestSequence sequence = RandomInputs(rng, layer.config, 5, 200);
    TestSequence shortened = sequence;
    shortened.kv_len -= 1;
    shortened.key.resize(shortened.kv_len * layer.config.kdim);
    shortened.value.resize(shortened.kv_len * layer.config.vdim);
    const BoundedProblem problem(layer, sequence);
    EXPECT_GT(
        WorstErrorRatio(AttendF32(layer, shortened).output, problem.reference.output, problem.bound.output),
        1.0)
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
