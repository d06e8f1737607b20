// SPDX-License-Identifier: Apache-2.0
//
// Every kernel of the table against the double-precision reference. What the results must not depend on is in
// kernel_independence_test.cc.
#include "core/attention/kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "tests/core/testing/effort.h"
#include "tests/core/testing/expect_near.h"
#include "tests/core/testing/kernel_fixture.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::Describe;
using ::testing::Each;
using testing::ExpectNearReference;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::KernelTest;
using testing::kHeadDims;
using testing::MakeRng;
using testing::OneIn;
using testing::RandomInputs;
using testing::RandomLayer;
using testing::RandomMask;
using testing::RandomSequence;
using testing::Repetitions;
using testing::Rng;
using testing::StatusIs;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestMask;
using testing::TestSequence;
using testing::UniformInt;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr WeightsSink::Mode kModes[] = {WeightsSink::Mode::kNone, WeightsSink::Mode::kFull,
                                        WeightsSink::Mode::kMean};

INSTANTIATE_TEST_SUITE_P(Kernels, KernelTest, ::testing::ValuesIn(testing::KernelNames()),
                         testing::KernelTestName);

std::vector<const TestSequence*> PointersTo(const std::vector<TestSequence>& sequences) {
  std::vector<const TestSequence*> pointers;
  for (const TestSequence& sequence : sequences) pointers.push_back(&sequence);
  return pointers;
}

TEST(KernelTableTest, NamesAreUniqueAndDescribed) {
  std::set<std::string> names;
  for (const KernelEntry& entry : KernelTable()) {
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_STRNE(entry.description, "") << entry.name;
  }
  EXPECT_TRUE(names.contains("matmul")) << "the kernel that needs nothing special";
}

TEST_P(KernelTest, MatchesTheReferenceOnRandomBatches) {
  for (int i = 0; i < Repetitions(24); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, kHeadDims[i % std::size(kHeadDims)]);
    SCOPED_TRACE(Describe(layer.config));
    std::vector<TestSequence> sequences(UniformInt(rng, 1, 4));
    std::string description;
    for (TestSequence& sequence : sequences) {
      sequence = RandomSequence(rng, layer.config, /*max_len=*/OneIn(rng, 2) ? 140 : 30);
      description += Describe(sequence) + "; ";
    }
    SCOPED_TRACE(description);
    TestBatch batch(layer.config, PointersTo(sequences), kModes[UniformInt(rng, 0, 2)]);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch);
  }
}

// Several tiles of keys and blocks of queries, cut at odd places.
TEST_P(KernelTest, MatchesTheReferenceOnLongSequences) {
  for (int i = 0; i < Repetitions(6); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    TestLayer layer = RandomLayer(rng, i % 2 == 0 ? 16 : 40);
    AttentionConfig& config = layer.config;
    config.num_heads = 2;
    config.num_kv_heads = 1 + i % 2;
    config.embed_dim = config.kdim = config.vdim = 24;
    layer.weights = RandomWeights(config, i);
    const int64_t kv_len = UniformInt(rng, 513, 1200);
    TestSequence sequence = RandomInputs(rng, config, UniformInt(rng, 1, 300), kv_len, /*amplitude=*/3.0f);
    sequence.visibility.causal = i % 3 == 0;
    if (i % 3 == 1) sequence.mask = RandomMask(rng, config.num_heads, sequence.q_len, kv_len);
    SCOPED_TRACE(Describe(config) + "; " + Describe(sequence));
    TestBatch batch(config, {&sequence}, kModes[1 + i % 2]);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch);
  }
}

// Scores in the hundreds: nearly all of a row's weight falls on one key, the other exponentials underflow.
TEST_P(KernelTest, MatchesTheReferenceOnLargeLogits) {
  for (int i = 0; i < Repetitions(12); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    TestLayer layer = RandomLayer(rng, kHeadDims[i % std::size(kHeadDims)]);
    if (i % 3 == 0) layer.config.scale = 1.0;
    TestSequence sequence =
        RandomInputs(rng, layer.config, UniformInt(rng, 1, 50), UniformInt(rng, 1, 150), 12.0f);
    sequence.visibility.causal = OneIn(rng, 2);
    SCOPED_TRACE(Describe(layer.config) + "; " + Describe(sequence));
    TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch);
  }
}

// The first keys of each row are far below the later ones, so that whatever was taken as the row's reference
// from them is off by much more than f32's exponent range.
TEST_P(KernelTest, MatchesTheReferenceWhenScoresGrowAlongTheKeys) {
  for (int i = 0; i < Repetitions(4); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, 40);
    TestSequence sequence = RandomInputs(rng, layer.config, 20, 200);
    sequence.mask = TestMask(DType::kF32, 1, 20, 200);
    for (int64_t query = 0; query < 20; ++query) {
      for (int64_t key = 0; key < 200; ++key) sequence.mask.SetTerm(0, query, key, 2.0f * key - 300.0f);
    }
    SCOPED_TRACE(Describe(layer.config));
    TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch);
  }
}

TEST_P(KernelTest, GivesZeroWeightsAndTheBiasToQueriesWithoutKeys) {
  Rng rng = MakeRng(0);
  TestLayer layer = RandomLayer(rng, 16);
  layer.weights = RandomWeights(layer.config, 1);
  TestSequence masked = RandomInputs(rng, layer.config, 3, 70);
  masked.mask = TestMask(DType::kBool, 1, 3, 70);
  for (int64_t key = 0; key < 70; ++key) masked.mask.SetAllowed(0, 1, key, false);
  // Aligned at the end, the first two of five queries are before the first of three keys.
  TestSequence early = RandomInputs(rng, layer.config, 5, 3);
  early.visibility.causal = true;

  TestBatch batch(layer.config, {&masked, &early}, WeightsSink::Mode::kFull);
  ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
  ExpectNearReference(layer, batch);

  const auto expect_empty = [&](int64_t sequence, int64_t query) {
    SCOPED_TRACE(::testing::Message() << "sequence " << sequence << ", query " << query);
    const std::vector<float> output = batch.Output(sequence);
    const auto row = output.begin() + query * layer.config.embed_dim;
    EXPECT_EQ(std::vector<float>(row, row + layer.config.embed_dim), layer.weights.bo);
    const std::vector<float> weights = batch.Weights(sequence);
    const int64_t kv_len = batch.batch().kv_len(sequence);
    for (int64_t head = 0; head < layer.config.num_heads; ++head) {
      const auto head_row = weights.begin() + (head * batch.batch().q_len(sequence) + query) * kv_len;
      EXPECT_THAT(std::vector<float>(head_row, head_row + kv_len), Each(0.0f));
    }
  };
  expect_empty(0, 1);
  expect_empty(1, 0);
  expect_empty(1, 1);
}

// As frameworks write masks: the most negative number instead of -inf, in every key of a row.
TEST_P(KernelTest, AttendsEquallyWhereAFiniteMaskSwampsEveryScore) {
  Rng rng = MakeRng(0);
  const TestLayer layer = RandomLayer(rng, 16);
  TestSequence sequence = RandomInputs(rng, layer.config, 1, 50);
  sequence.mask = TestMask(DType::kF32, 1, 1, 50);
  for (int64_t key = 0; key < 50; ++key) {
    sequence.mask.SetTerm(0, 0, key, std::numeric_limits<float>::lowest());
  }
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
  ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
  EXPECT_THAT(batch.Weights(0), Each(::testing::FloatNear(1.0f / 50, 1e-7f)));
}

TEST_P(KernelTest, PassesNonFiniteQueriesOnToTheirOwnRowsOnly) {
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity}) {
    SCOPED_TRACE(bad);
    Rng rng = MakeRng(0);
    const TestLayer layer = RandomLayer(rng, 64);
    TestSequence sequence = RandomInputs(rng, layer.config, 20, 90);
    sequence.query[7 * layer.config.embed_dim] = bad;
    TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    const std::vector<float> output = batch.Output(0);
    for (int64_t query = 0; query < 20; ++query) {
      const auto row = output.begin() + query * layer.config.embed_dim;
      const bool finite =
          std::all_of(row, row + layer.config.embed_dim, [](float y) { return std::isfinite(y); });
      EXPECT_EQ(finite, query != 7) << "query " << query;
    }
  }
}

TEST_P(KernelTest, LetsNonFiniteKeysShowInEveryRowThatSeesThem) {
  Rng rng = MakeRng(0);
  const TestLayer layer = RandomLayer(rng, 64);
  TestSequence sequence = RandomInputs(rng, layer.config, 20, 90);
  sequence.key[40 * layer.config.kdim] = std::nanf("");
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kNone);
  ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
  for (float y : batch.Output(0)) ASSERT_TRUE(std::isnan(y));
}

TEST_P(KernelTest, LeavesTheOutputAloneWhenTheBatchIsInvalid) {
  Rng rng = MakeRng(0);
  const TestLayer layer = RandomLayer(rng, 16);
  const TestSequence sequence = RandomInputs(rng, layer.config, 4, 4);
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
  batch.batch().query.cols += 1;
  EXPECT_THAT(TryRun(layer, batch), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("query")));
  EXPECT_TRUE(batch.Untouched());
}

}  // namespace
}  // namespace headlight
