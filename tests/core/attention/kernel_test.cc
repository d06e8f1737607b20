// SPDX-License-Identifier: Apache-2.0
//
// Every kernel of the table, in every precision, against the double-precision reference. What the results
// must not depend on is in kernel_independence_test.cc.
#include "core/attention/kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/testing/effort.h"
#include "tests/core/testing/expect_near.h"
#include "tests/core/testing/kernel_fixture.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::AddRandomSemantics;
using ::testing::AllOf;
using testing::Describe;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ExpectNearReference;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::KernelTest;
using testing::kHeadDims;
using testing::kSinkModes;
using testing::OneIn;
using testing::RandomInputs;
using testing::RandomLayer;
using testing::RandomMask;
using testing::RandomSequence;
using testing::RandomSink;
using testing::Repetitions;
using testing::Rng;
using testing::SinkRequest;
using ::testing::SizeIs;
using testing::StatusIs;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestMask;
using testing::TestSequence;
using testing::UniformInt;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

INSTANTIATE_TEST_SUITE_P(Kernels, KernelTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

std::vector<const TestSequence*> PointersTo(const std::vector<TestSequence>& sequences) {
  std::vector<const TestSequence*> pointers;
  for (const TestSequence& sequence : sequences) pointers.push_back(&sequence);
  return pointers;
}

// Small, and whatever a layer may ask for beside.
TestLayer LayerOf(const AttentionConfig& config, uint64_t seed = 1) {
  return {config.Resolved(), RandomParameters(config.Resolved(), seed)};
}

// 1 / n, from n equal exponentials: their relative error, and that of a quotient of sums.
::testing::Matcher<float> OneOf(int n, Precision precision) {
  const float weight = 1.0f / static_cast<float>(n);
  return ::testing::FloatNear(weight, weight * (precision == Precision::kF32 ? 0x1p-20f : 0x1p-13f));
}

TEST(ProductKindsTest, NamesAreUniqueAndDescribed) {
  std::set<std::string> names;
  for (const ProductKind& kind : ProductKinds()) {
    EXPECT_TRUE(names.insert(kind.name).second) << kind.name;
    EXPECT_STRNE(kind.description, "") << kind.name;
  }
  EXPECT_TRUE(names.contains("matmul")) << "the kernel that needs nothing special";
}

// Layers, sequences and sinks of every kind, several to a batch.
TEST_P(KernelTest, MatchesTheReferenceOnRandomBatches) {
  constexpr int kRepetitions = 6;
  for (int i = 0; i < Repetitions(kRepetitions); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    TestLayer layer = RandomLayer(rng, kHeadDims[(kRepetitions * Place() + i) % std::size(kHeadDims)]);
    AddRandomSemantics(rng, layer);
    SCOPED_TRACE(Describe(layer.config));
    std::vector<TestSequence> sequences(UniformInt(rng, 1, 4));
    std::vector<SinkRequest> sinks;
    std::string description;
    for (TestSequence& sequence : sequences) {
      sequence = RandomSequence(rng, layer.config, /*max_len=*/OneIn(rng, 3) ? 140 : 30);
      sinks.push_back(RandomSink(rng, layer.config, sequence));
      description += Describe(sequence) + ", " + Describe(sinks.back()) + "; ";
    }
    SCOPED_TRACE(description);
    TestBatch batch(layer.config, PointersTo(sequences), sinks);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch, precision());
  }
}

// Beside the multiples of registers, panels, blocks and tiles, where the last piece is ragged or the first
// one is whole.
TEST_P(KernelTest, MatchesTheReferenceAroundItsOwnSizes) {
  constexpr int64_t kLengths[] = {15, 16, 17, 63, 64, 65, 127, 128, 129, 511, 512, 513};
  for (size_t i = 0; i < std::size(kLengths); ++i) {
    const int64_t length = kLengths[i];
    Rng rng = MakeRng(static_cast<int>(i));
    // With one appended key the sizes are hit by the others.
    const TestLayer layer = LayerOf({.embed_dim = 24,
                                     .num_heads = 2,
                                     .num_kv_heads = 1,
                                     .head_dim = i % 2 == 0 ? 16 : 40,
                                     .add_zero_attn = i % 3 == 0});
    std::vector<TestSequence> sequences = {
        RandomInputs(rng, layer.config, std::min<int64_t>(length, 65), length, 3.0f),
        RandomInputs(rng, layer.config, 3, length, 3.0f), RandomInputs(rng, layer.config, length, 5, 3.0f)};
    for (TestSequence& sequence : sequences) sequence.visibility.causal = i % 2 == 0;
    SCOPED_TRACE(Describe(layer.config) + "; " + Describe(sequences[0]));
    TestBatch batch(layer.config, PointersTo(sequences), WeightsSink::Mode::kTopK);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch, precision());
  }
}

// Several tiles of keys and blocks of queries, cut at odd places.
TEST_P(KernelTest, MatchesTheReferenceOnLongSequences) {
  for (int i = 0; i < Repetitions(4); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    TestLayer layer = LayerOf(
        {.embed_dim = 24, .num_heads = 2, .num_kv_heads = 1 + i % 2, .head_dim = i % 2 == 0 ? 16 : 40});
    AddRandomSemantics(rng, layer);
    const int64_t kv_len = UniformInt(rng, 513, 1200);
    TestSequence sequence =
        RandomInputs(rng, layer.config, UniformInt(rng, 1, 200), kv_len, /*amplitude=*/3.0f);
    sequence.visibility.causal = i % 3 == 0;
    if (i % 3 == 1) sequence.mask = RandomMask(rng, layer.config.num_heads, sequence.q_len, kv_len);
    SCOPED_TRACE(Describe(layer.config) + "; " + Describe(sequence));
    TestBatch batch(layer.config, {&sequence}, kSinkModes[1 + i % 4]);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch, precision());
  }
}

// Scores in the hundreds: nearly all of a row's weight falls on one key, the other exponentials underflow.
TEST_P(KernelTest, MatchesTheReferenceOnLargeLogits) {
  for (int i = 0; i < Repetitions(3); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    TestLayer layer = RandomLayer(rng, kHeadDims[UniformInt(rng, 0, std::size(kHeadDims) - 1)]);
    if (i % 3 == 0) layer.config.scale = 1.0;
    TestSequence sequence =
        RandomInputs(rng, layer.config, UniformInt(rng, 1, 50), UniformInt(rng, 1, 150), 12.0f);
    sequence.visibility.causal = OneIn(rng, 2);
    SCOPED_TRACE(Describe(layer.config) + "; " + Describe(sequence));
    TestBatch batch(layer.config, {&sequence},
                    i % 2 == 0 ? WeightsSink::Mode::kFull : WeightsSink::Mode::kSummary);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch, precision());
  }
}

// One semantic at a time, so that a failure names it.
struct Semantic {
  std::string name;
  std::function<void(AttentionConfig&)> add;
};

const std::vector<Semantic>& Semantics() {
  using Scaling = RopeConfig::Scaling;
  static const std::vector<Semantic> kSemantics = {
      {"nothing", [](auto&) {}},
      {"RoPE, half-split", [](auto& c) { c.rope = RopeConfig{}; }},
      {"RoPE, interleaved", [](auto& c) { c.rope = RopeConfig{.interleaved = true}; }},
      {"RoPE, half-split, of some dimensions", [](auto& c) { c.rope = RopeConfig{.rotary_dim = 6}; }},
      {"RoPE, interleaved, of some dimensions",
       [](auto& c) { c.rope = RopeConfig{.rotary_dim = 10, .interleaved = true}; }},
      {"RoPE, linear", [](auto& c) { c.rope = RopeConfig{.scaling = Scaling::kLinear, .factor = 3}; }},
      {"RoPE, NTK", [](auto& c) { c.rope = RopeConfig{.scaling = Scaling::kNtk, .factor = 3}; }},
      {"RoPE, LLaMA 3",
       [](auto& c) {
         c.rope = RopeConfig{.scaling = Scaling::kLlama3, .factor = 8, .original_max_len = 60};
       }},
      {"ALiBi", [](auto& c) { c.alibi = true; }},
      {"softcap", [](auto& c) { c.logit_softcap = 1.5; }},
      {"window to the left", [](auto& c) { c.window_left = 70; }},
      {"window to the right", [](auto& c) { c.window_right = 3; }},
      {"a window of itself", [](auto& c) { c.window_left = c.window_right = 0; }},
      {"a learned key", [](auto& c) { c.add_bias_kv = true; }},
      {"a key of zeros", [](auto& c) { c.add_zero_attn = true; }},
      {"both appended keys", [](auto& c) { c.add_bias_kv = c.add_zero_attn = true; }},
      {"grouped heads", [](auto& c) { c.num_kv_heads = 1; }},
      {"a negative scale", [](auto& c) { c.scale = -0.4; }},
      {"no scale at all", [](auto& c) { c.scale = 0.0; }},
  };
  return kSemantics;
}

TEST_P(KernelTest, ServesEverySemantic) {
  for (const Semantic& semantic : Semantics()) {
    SCOPED_TRACE(semantic.name);
    Rng rng = MakeRng(0);
    AttentionConfig config = {.embed_dim = 30, .num_heads = 3, .head_dim = 16};
    semantic.add(config);
    const TestLayer layer = LayerOf(config);
    // More queries than keys, fewer, as many; one query; one key. Keys beyond a panel, and just a panel with
    // one more appended.
    std::vector<TestSequence> sequences;
    for (const auto& [q_len, kv_len] :
         {std::pair<int64_t, int64_t>{70, 20}, {20, 150}, {40, 40}, {1, 63}, {5, 1}}) {
      sequences.push_back(RandomInputs(rng, layer.config, q_len, kv_len, 2.0f));
    }
    sequences[2].visibility.causal = true;
    sequences[1].mask = RandomMask(rng, 3, 20, 150);
    TestBatch batch(layer.config, PointersTo(sequences), WeightsSink::Mode::kFull);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch, precision());
  }
}

// The row reference taken from the first keys is off by more than f32's exponents reach: later keys outscore
// the first ones by a factor of about 2^60, by far more than 2^127, or fall as far below.
TEST_P(KernelTest, MatchesTheReferenceWhereLaterKeysOutscoreTheFirst) {
  constexpr int64_t kKeys = 600;
  Rng rng = MakeRng(0);
  const TestLayer layer = LayerOf({.embed_dim = 32, .num_heads = 2, .head_dim = 40});
  int sink = 0;
  for (const float gap : {41.0f, 42.0f, 60.0f, 88.0f, 300.0f, 1e5f, -300.0f}) {
    for (const int64_t first_high_key : {64, 599}) {
      SCOPED_TRACE(::testing::Message() << "gap " << gap << " from key " << first_high_key);
      TestSequence sequence = RandomInputs(rng, layer.config, 3, kKeys);
      sequence.mask = TestMask(DType::kF32, 1, 3, kKeys);
      for (int64_t query = 0; query < 2; ++query) {  // the last query sees no gap
        for (int64_t key = first_high_key; key < kKeys; ++key) sequence.mask.SetTerm(0, query, key, gap);
      }
      TestBatch batch(layer.config, {&sequence}, kSinkModes[sink++ % std::size(kSinkModes)]);
      ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
      ExpectNearReference(layer, batch, precision());
    }
  }
}

// The same from the scores themselves, which no mask or other rule touches.
TEST_P(KernelTest, MatchesTheReferenceWhereLaterProductsOutscoreTheFirst) {
  // One head of which q and k are the input itself.
  TestLayer layer = LayerOf({.embed_dim = 16, .num_heads = 1, .scale = 1.0});
  for (std::vector<float>* w : {&layer.weights.wq, &layer.weights.wk}) {
    for (int64_t i = 0; i < 256; ++i) (*w)[i] = i % 17 == 0 ? 1.0f : 0.0f;
  }
  layer.weights.bq.clear();
  layer.weights.bk.clear();
  for (const float high : {45.0f, 100.0f, 5000.0f}) {
    for (const int64_t first_high_key : {64, 200}) {
      SCOPED_TRACE(::testing::Message() << high << " from key " << first_high_key);
      Rng rng = MakeRng(0);
      TestSequence sequence = RandomInputs(rng, layer.config, 70, 300);
      for (int64_t query = 0; query < 70; ++query) sequence.query[query * 16] = query % 2 == 0 ? 1.0f : 0.0f;
      for (int64_t key = 0; key < 300; ++key) sequence.key[key * 16] = key < first_high_key ? 0.0f : high;
      TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
      ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
      ExpectNearReference(layer, batch, precision());
    }
  }
}

// The first keys of each row are far below the later ones, and each a little less than the one before.
TEST_P(KernelTest, MatchesTheReferenceWhereScoresGrowAlongTheKeys) {
  for (int i = 0; i < Repetitions(2); ++i) {
    HEADLIGHT_TRACE_REPETITION(i);
    Rng rng = MakeRng(i);
    const TestLayer layer = RandomLayer(rng, 40);
    TestSequence sequence = RandomInputs(rng, layer.config, 5, 200);
    sequence.mask = TestMask(DType::kF32, 1, 5, 200);
    for (int64_t query = 0; query < 5; ++query) {
      for (int64_t key = 0; key < 200; ++key) sequence.mask.SetTerm(0, query, key, 2.0f * key - 300.0f);
    }
    SCOPED_TRACE(Describe(layer.config));
    TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
    ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
    ExpectNearReference(layer, batch, precision());
  }
}

// No key of the first panels is allowed, so that the row's reference comes from later ones: by a window that
// begins inside of a panel, by an explicit mask, by both, for some rows of a block and not for others.
TEST_P(KernelTest, MatchesTheReferenceWhereTheFirstPanelsAreForbidden) {
  constexpr int64_t kKeys = 700;
  for (const bool window : {false, true}) {
    for (const int64_t first_allowed : {1, 63, 64, 100, 640, 699}) {
      SCOPED_TRACE(::testing::Message() << "keys from " << first_allowed << (window ? ", windowed" : ""));
      Rng rng = MakeRng(static_cast<int>(first_allowed));
      const TestLayer layer = LayerOf({.embed_dim = 32, .num_heads = 2, .head_dim = 24});
      TestSequence sequence = RandomInputs(rng, layer.config, 9, kKeys, 3.0f);
      if (window)
        sequence.visibility.window_left =
            8 + kKeys - 9 - 30;  // the first query sees from key 0, the last from 8
      if (window && first_allowed > 600) sequence.visibility.window_left = 20;
      sequence.mask = TestMask(first_allowed % 2 == 0 ? DType::kBool : DType::kF32, 1, 9, kKeys);
      for (int64_t query = 0; query < 9; query += 2) {
        for (int64_t key = 0; key < first_allowed; ++key) {
          if (first_allowed % 2 == 0) {
            sequence.mask.SetAllowed(0, query, key, false);
          } else {
            sequence.mask.SetTerm(0, query, key, -kInfinity);
          }
        }
      }
      TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
      ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
      ExpectNearReference(layer, batch, precision());
    }
  }
}

// Only appended keys are left of a row whose own keys are all forbidden.
TEST_P(KernelTest, AttendsToAppendedKeysWhereAllOthersAreForbidden) {
  Rng rng = MakeRng(0);
  const TestLayer layer =
      LayerOf({.embed_dim = 32, .num_heads = 2, .add_zero_attn = true, .add_bias_kv = true});
  TestSequence sequence = RandomInputs(rng, layer.config, 80, 64);
  sequence.visibility.causal = true;  // the first 16 queries are before the first key
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
  ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
  ExpectNearReference(layer, batch, precision());
}

TEST_P(KernelTest, GivesZeroWeightsAndTheBiasToQueriesWithoutKeys) {
  Rng rng = MakeRng(0);
  TestLayer layer = RandomLayer(rng, 16);
  layer.weights = RandomParameters(layer.config, 1);
  TestSequence masked = RandomInputs(rng, layer.config, 3, 70);
  masked.mask = TestMask(DType::kBool, 1, 3, 70);
  for (int64_t key = 0; key < 70; ++key) masked.mask.SetAllowed(0, 1, key, false);
  // Aligned at the end, the first two of five queries are before the first of three keys.
  TestSequence early = RandomInputs(rng, layer.config, 5, 3);
  early.visibility.causal = true;

  TestBatch batch(layer.config, {&masked, &early}, WeightsSink::Mode::kFull);
  ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
  ExpectNearReference(layer, batch, precision());

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
  EXPECT_THAT(batch.Weights(0), Each(OneOf(50, precision())));
}

// Statistics over no queries, and a list of keys longer than there are.
TEST_P(KernelTest, SinksMayAskForNothingAndForMoreThanThereIs) {
  Rng rng = MakeRng(0);
  const TestLayer layer = LayerOf({.embed_dim = 32, .num_heads = 2});
  const TestSequence sequence = RandomInputs(rng, layer.config, 5, 7);
  const auto request = [](WeightsSink::Mode mode, int64_t begin, int64_t end, int64_t top_k) {
    return SinkRequest{.mode = mode, .query_begin = begin, .query_end = end, .top_k = top_k};
  };
  const std::vector<SinkRequest> requests = {
      request(WeightsSink::Mode::kSummary, 2, 2, 1), request(WeightsSink::Mode::kSummary, 9, 12, 1),
      request(WeightsSink::Mode::kFull, 5, 6, 1),    request(WeightsSink::Mode::kMean, 3, 3, 1),
      request(WeightsSink::Mode::kTopK, 4, 400, 50), request(WeightsSink::Mode::kTopK, 1, 1, 3)};
  TestBatch batch(layer.config, std::vector<const TestSequence*>(requests.size(), &sequence), requests);
  ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
  ExpectNearReference(layer, batch, precision());
  EXPECT_THAT(batch.Results(0).weights, AllOf(SizeIs(2 * kNumHeadStatistics), Each(0.0f)));
  EXPECT_THAT(batch.Results(1).received_mass, AllOf(SizeIs(2 * 7), Each(0.0f)));
}

TEST_P(KernelTest, TopKOfEqualWeightsTakesTheFirstKeys) {
  Rng rng = MakeRng(0);
  TestLayer layer = LayerOf({.embed_dim = 32, .num_heads = 2});
  layer.config.scale = 0.0;
  TestSequence sequence = RandomInputs(rng, layer.config, 3, 200);
  sequence.mask = TestMask(DType::kBool, 1, 3, 200);
  sequence.mask.SetAllowed(0, 1, 0, false);
  sequence.mask.SetAllowed(0, 1, 2, false);
  TestBatch batch(layer.config, {&sequence},
                  std::vector{SinkRequest{.mode = WeightsSink::Mode::kTopK, .top_k = 3}});
  ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
  EXPECT_THAT(batch.Results(0).keys, ElementsAre(0, 1, 2, 1, 3, 4, 0, 1, 2, 0, 1, 2, 1, 3, 4, 0, 1, 2));
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

// Scores of -inf weigh nothing, scores of +inf make their row NaN, whatever comes before or after them.
TEST_P(KernelTest, TreatsInfiniteScoresAsTheReferenceDoes) {
  // One head whose queries and keys are the first element of the input, the others zero.
  TestLayer layer = LayerOf({.embed_dim = 16, .num_heads = 1, .scale = 1.0});
  for (std::vector<float>* w : {&layer.weights.wq, &layer.weights.wk}) {
    std::fill(w->begin(), w->end(), 0.0f);
    w->front() = 1.0f;
  }
  layer.weights.bq.clear();
  layer.weights.bk.clear();
  for (const float score : {1e30f, -1e30f}) {
    for (const int64_t key : {0, 70, 199}) {
      SCOPED_TRACE(::testing::Message() << score << " at key " << key);
      Rng rng = MakeRng(0);
      TestSequence sequence = RandomInputs(rng, layer.config, 2, 200);
      for (int64_t query = 0; query < 2; ++query) sequence.query[query * 16] = query == 0 ? 1e30f : 0.0f;
      for (int64_t j = 0; j < 200; ++j) sequence.key[j * 16] = j == key ? score : 0.0f;
      TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
      ASSERT_NO_FATAL_FAILURE(Run(layer, batch));
      const std::vector<float> weights = batch.Weights(0);
      if (score > 0) {  // inf - inf
        EXPECT_TRUE(std::isnan(weights[key]));
        EXPECT_TRUE(std::isnan(batch.Output(0)[0]));
      } else {
        EXPECT_EQ(weights[key], 0.0f);
        EXPECT_THAT(weights[key == 0 ? 1 : 0], OneOf(199, precision()));
        EXPECT_TRUE(std::isfinite(batch.Output(0)[0]));
      }
      // The other query is 0: its scores are.
      EXPECT_THAT(std::vector<float>(weights.begin() + 200, weights.end()), Each(OneOf(200, precision())));
    }
  }
}

}  // namespace
}  // namespace headlight
