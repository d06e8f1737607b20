// SPDX-License-Identifier: Apache-2.0
//
// What every kernel reports about its attention weights where that is hard: references far from the scores,
// forbidden keys, rows of every short length, ties.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "tests/core/testing/effort.h"
#include "tests/core/testing/expect_near.h"
#include "tests/core/testing/kernel_fixture.h"
#include "tests/core/testing/test_problem.h"

namespace headlight {
namespace {

using testing::ExpectNearReference;
using testing::OneIn;
using testing::RandomInputs;
using testing::Rng;
using testing::SameBits;
using testing::SinkRequest;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestMask;
using testing::TestSequence;
using testing::UniformInt;

constexpr float kForbidden = -std::numeric_limits<float>::infinity();  // an additive mask

class KernelWeightsTest : public testing::KernelTest {
 protected:
  // One head whose queries and keys are the first element of the input, the others zero.
  static TestLayer LayerOfProducts() {
    const AttentionConfig config = AttentionConfig{.embed_dim = 16, .num_heads = 1, .scale = 1.0}.Resolved();
    TestLayer layer{config, RandomParameters(config, 1)};
    for (std::vector<float>* w : {&layer.weights.wq, &layer.weights.wk}) {
      std::fill(w->begin(), w->end(), 0.0f);
      w->front() = 1.0f;
    }
    layer.weights.bq.clear();
    layer.weights.bk.clear();
    return layer;
  }

  // Every report of the sequence is near the reference, and the output is the same beside each of them.
  void ExpectReports(const TestLayer& layer, const TestSequence& sequence) {
    std::vector<SinkRequest> requests;
    for (const WeightsSink::Mode mode : testing::kSinkModes) requests.push_back({mode});
    TestBatch batch(layer.config, std::vector<const TestSequence*>(requests.size(), &sequence), requests);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch, precision());
    for (size_t i = 1; i < requests.size(); ++i) {
      EXPECT_TRUE(SameBits(batch.Output(static_cast<int64_t>(i)), batch.Output(0)))
          << testing::Describe(requests[i]);
    }
  }
};

// Of one query of LayerOfProducts that is 1: the keys it may see by its mask, the largest first.
std::vector<int32_t> LargestKeys(const TestSequence& sequence, int64_t query, int64_t k) {
  const MaskView mask = sequence.mask.View();
  std::vector<int32_t> keys;
  for (int64_t key = 0; key < sequence.kv_len; ++key) {
    if (static_cast<const uint8_t*>(mask.data)[query * mask.query_stride + key] != 0) {
      keys.push_back(static_cast<int32_t>(key));
    }
  }
  std::stable_sort(keys.begin(), keys.end(), [&](int32_t a, int32_t b) {
    return sequence.key[int64_t{a} * 16] > sequence.key[int64_t{b} * 16];
  });
  keys.resize(k, -1);
  return keys;
}

INSTANTIATE_TEST_SUITE_P(Kernels, KernelWeightsTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

// The row's reference is its first keys' maximum. Others are above it: by little, by most of what a sum may
// grow to, by so much that the running maximum takes over. Half of the queries see no difference.
TEST_P(KernelWeightsTest, ReportsWhereLaterProductsOutscoreTheFirst) {
  const TestLayer layer = LayerOfProducts();
  for (const float high : {25.0f, 39.0f, 100.0f, 5000.0f}) {
    for (const int64_t first_high_key : {64, 600}) {
      SCOPED_TRACE(::testing::Message() << high << " from key " << first_high_key);
      Rng rng = MakeRng(0);
      TestSequence sequence = RandomInputs(rng, layer.config, 9, 700);
      for (int64_t query = 0; query < 9; ++query) sequence.query[query * 16] = query % 2 == 0 ? 1.0f : 0.0f;
      for (int64_t key = 0; key < 700; ++key) sequence.key[key * 16] = key < first_high_key ? 0.0f : high;
      ASSERT_NO_FATAL_FAILURE(ExpectReports(layer, sequence));
    }
  }
}

// The running maximum rises with every tile, so that each tile's exponentials have a reference of their own.
TEST_P(KernelWeightsTest, ReportsWhereScoresGrowAlongTheKeys) {
  Rng rng = MakeRng(0);
  const AttentionConfig config = AttentionConfig{.embed_dim = 32, .num_heads = 2}.Resolved();
  const TestLayer layer{config, RandomParameters(config, 1)};
  for (const float slope : {0.02f, 0.1f, 2.0f}) {
    SCOPED_TRACE(slope);
    TestSequence sequence = RandomInputs(rng, layer.config, 5, 1100);
    sequence.mask = TestMask(DType::kF32, 1, 5, 1100);
    for (int64_t query = 0; query < 5; ++query) {
      for (int64_t key = 0; key < 1100; ++key) {
        // A gap of 50 among the later keys makes the whole block follow the running maximum.
        const float jump = key > 1000 && query == 0 ? 50.0f : 0.0f;
        sequence.mask.SetTerm(0, query, key, slope * static_cast<float>(key) + jump);
      }
    }
    ASSERT_NO_FATAL_FAILURE(ExpectReports(layer, sequence));
  }
}

// Whole panels, whole tiles and single keys forbidden, by a mask and by position, and queries without keys.
// Rows of cells that several blocks share, that lie within one, and that begin or end with one; of cells of
// keys the same with tiles. Rows of queries that are done once more are among them.
TEST_P(KernelWeightsTest, AveragesOverCellsThatBlocksAndTilesShare) {
  const TestLayer layer = LayerOfProducts();
  Rng rng = MakeRng(0);
  TestSequence sequence = RandomInputs(rng, layer.config, 300, 1100);
  for (int64_t query = 0; query < 300; ++query) sequence.query[query * 16] = query % 3 == 0 ? 1.0f : 0.0f;
  for (int64_t key = 0; key < 1100; ++key) sequence.key[key * 16] = key < 700 ? 0.0f : 100.0f + key % 7;
  for (const bool causal : {false, true}) {
    sequence.visibility.causal = causal;
    std::vector<SinkRequest> requests;
    for (const auto& [rows, cols] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {2, 64}, {3, 5}, {64, 2}, {64, 64}, {5, 33}}) {
      for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {60, 270}}) {
        requests.push_back({.mode = WeightsSink::Mode::kGrid,
                            .query_begin = begin,
                            .query_end = end,
                            .grid_rows = rows,
                            .grid_cols = cols});
      }
    }
    TestBatch batch(layer.config, std::vector<const TestSequence*>(requests.size(), &sequence), requests);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch, precision());
  }
}

TEST_P(KernelWeightsTest, ReportsNothingOfForbiddenKeys) {
  Rng rng = MakeRng(0);
  const AttentionConfig config = AttentionConfig{.embed_dim = 32, .num_heads = 2, .head_dim = 24}.Resolved();
  const TestLayer layer{config, RandomParameters(config, 1)};
  for (const int64_t forbidden : {1, 64, 100, 520, 640}) {
    SCOPED_TRACE(::testing::Message() << "the first " << forbidden << " keys");
    TestSequence sequence = RandomInputs(rng, layer.config, 70, 640, 3.0f);
    sequence.visibility.window_left = 300;
    sequence.mask = TestMask(DType::kF32, 1, 70, 640);
    for (int64_t query = 0; query < 70; query += 3) {
      for (int64_t key = 0; key < 640; ++key) {
        if (key < forbidden || key % 5 == 0) sequence.mask.SetTerm(0, query, key, kForbidden);
      }
    }
    ASSERT_NO_FATAL_FAILURE(ExpectReports(layer, sequence));
  }
}

// A product of -inf, which no mask has announced, weighs nothing; its logarithm is nobody's business.
TEST_P(KernelWeightsTest, SummarisesBesideInfiniteScores) {
  const TestLayer layer = LayerOfProducts();
  for (const int64_t key : {0, 70, 199}) {
    SCOPED_TRACE(::testing::Message() << "key " << key);
    Rng rng = MakeRng(0);
    TestSequence sequence = RandomInputs(rng, layer.config, 2, 200);
    for (int64_t query = 0; query < 2; ++query) sequence.query[query * 16] = query == 0 ? 1e30f : 0.0f;
    for (int64_t j = 0; j < 200; ++j) sequence.key[j * 16] = j == key ? -1e30f : 0.0f;
    TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kSummary);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    const double expected = (std::log(199.0) + std::log(200.0)) / 2;
    // The exponentials' relative error, and f32's of the logarithm and the sums.
    const double exp2_error = is_f32() ? 0x1p-22 : 0x1p-13;
    EXPECT_NEAR(batch.Weights(0)[kEntropyNats], expected, exp2_error + expected * 0x1p-20);
  }
}

// Weights of few different sizes in rows of every short length: the order of equal ones is that of their
// keys, and only those above 0 count. Lists shorter and longer than what is sorted in one go.
TEST_P(KernelWeightsTest, SelectsTheLargestWeightsOfShortRowsInTheOrderOfKeys) {
  constexpr int64_t kMaxKeys = 70, kQueries = 5;
  constexpr int64_t kTopK[] = {1, 7, 8, 9, 32, 33};
  const TestLayer layer = LayerOfProducts();
  std::vector<TestSequence> sequences;
  for (int64_t keys = 1; keys <= kMaxKeys; ++keys) {
    Rng rng = MakeRng(static_cast<int>(keys));
    TestSequence& sequence = sequences.emplace_back(RandomInputs(rng, layer.config, kQueries, keys));
    // Equal keys come from equal tokens, so that they stay equal in any precision.
    std::fill(sequence.query.begin(), sequence.query.end(), 0.0f);
    std::fill(sequence.key.begin(), sequence.key.end(), 0.0f);
    sequence.mask = TestMask(DType::kBool, 1, kQueries, keys);
    const int64_t sizes = UniformInt(rng, 1, 6);
    for (int64_t query = 0; query < kQueries; ++query) sequence.query[query * 16] = 1.0f;
    for (int64_t key = 0; key < keys; ++key) {
      sequence.key[key * 16] = static_cast<float>(UniformInt(rng, 0, sizes));
      for (int64_t query = 0; query < kQueries; ++query) {
        sequence.mask.SetAllowed(0, query, key, !OneIn(rng, query == 0 ? 2 : 10));
      }
    }
  }
  std::vector<const TestSequence*> asking;
  std::vector<SinkRequest> requests;
  for (const TestSequence& sequence : sequences) {
    for (const int64_t k : kTopK) {
      asking.push_back(&sequence);
      requests.push_back({.mode = WeightsSink::Mode::kTopK, .top_k = k});
    }
  }
  TestBatch batch(layer.config, asking, requests);
  ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
  for (size_t i = 0; i < asking.size(); ++i) {
    const std::vector<int32_t> selected = batch.Results(static_cast<int64_t>(i)).keys;
    const int64_t k = requests[i].top_k;
    for (int64_t query = 0; query < kQueries; ++query) {
      const auto row = selected.begin() + query * k;
      ASSERT_EQ(std::vector<int32_t>(row, row + k), LargestKeys(*asking[i], query, k))
          << asking[i]->kv_len << " keys, query " << query << ", the " << k << " largest";
    }
  }
}

// Many keys of the same weight, more than are sorted in one go, behind larger ones in every lane of a
// register.
TEST_P(KernelWeightsTest, SelectsTheLargestWeightsOfLongRowsWithTies) {
  const TestLayer layer = LayerOfProducts();
  for (const int64_t large : {0, 3, 8, 20}) {
    SCOPED_TRACE(::testing::Message() << large << " larger ones");
    Rng rng = MakeRng(0);
    TestSequence sequence = RandomInputs(rng, layer.config, 1, 1200);
    std::fill(sequence.query.begin(), sequence.query.end(), 0.0f);
    std::fill(sequence.key.begin(), sequence.key.end(), 0.0f);
    sequence.query[0] = 1.0f;
    std::vector<int32_t> expected;
    for (int64_t i = 0; i < large; ++i) {
      expected.push_back(static_cast<int32_t>(1199 - i * 47));
      sequence.key[expected.back() * 16] = 2.0f;
    }
    std::sort(expected.begin(), expected.end());
    for (int32_t key = 0; key < 8; ++key) expected.push_back(key);
    expected.resize(8);
    TestBatch batch(layer.config, {&sequence},
                    std::vector{SinkRequest{.mode = WeightsSink::Mode::kTopK, .top_k = 8}});
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    EXPECT_EQ(batch.Results(0).keys, expected);
  }
}

}  // namespace
}  // namespace headlight
