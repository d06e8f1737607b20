// SPDX-License-Identifier: Apache-2.0
//
// The oracle itself, against cases computed by hand and against torch.nn.MultiheadAttention.
#include "core/attention/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/core/testing/test_problem.h"

namespace headlight {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;
using ::testing::SizeIs;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestMask;
using testing::TestSequence;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

ReferenceResult Attend(const TestLayer& layer, const TestSequence& sequence) {
  const TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kNone);
  return ReferenceAttention(layer.config, layer.weights, batch.batch()).front();
}

void ExpectNear(const std::vector<double>& values, const std::vector<double>& expected,
                double tolerance = 1e-13) {
  EXPECT_THAT(values, Pointwise(DoubleNear(tolerance), expected));
}

// A layer of width 1 that changes nothing: q, k, v are the inputs and y what was attended to. Scores are q *
// k.
TestLayer Identity() {
  TestLayer layer;
  layer.config = AttentionConfig{.embed_dim = 1, .num_heads = 1}.Resolved();
  layer.weights.wq = layer.weights.wk = layer.weights.wv = layer.weights.wo = {1.0f};
  return layer;
}

TestSequence Scalars(const std::vector<float>& query, const std::vector<float>& key,
                     const std::vector<float>& value) {
  return {.q_len = static_cast<int64_t>(query.size()),
          .kv_len = static_cast<int64_t>(key.size()),
          .query = query,
          .key = key,
          .value = value};
}

// Two heads of width 1 that change nothing.
TestLayer TwoHeads() {
  TestLayer layer;
  layer.config = AttentionConfig{.embed_dim = 1, .num_heads = 2, .head_dim = 1}.Resolved();
  layer.weights.wq = layer.weights.wk = layer.weights.wv = layer.weights.wo = {1, 1};
  return layer;
}

// ln 3 as a float; its exponential is 3 to f32's precision.
const float kLn3 = std::log(3.0f);
constexpr double kF32 = 1e-6;

TEST(ReferenceTest, WeighsValuesByTheSoftmaxOfTheScores) {
  // Scores 0 and ln 3: weights 1/4 and 3/4.
  const ReferenceResult result = Attend(Identity(), Scalars({1}, {0, kLn3}, {8, 4}));
  ExpectNear(result.weights, {0.25, 0.75}, kF32);
  ExpectNear(result.output, {5.0}, kF32);
  EXPECT_EQ(result.q_len, 1);
  EXPECT_EQ(result.kv_len, 2);
  EXPECT_EQ(result.own_kv_len, 2);
}

TEST(ReferenceTest, MultipliesScoresByTheScale) {
  TestLayer layer = Identity();
  layer.config.scale = -2.0;
  ExpectNear(Attend(layer, Scalars({1}, {0, kLn3 / 2}, {8, 4})).weights, {0.75, 0.25}, kF32);
}

TEST(ReferenceTest, DividesByTheRootOfTheHeadsWidthByDefault) {
  TestLayer layer;
  layer.config = AttentionConfig{.embed_dim = 4, .num_heads = 1}.Resolved();
  layer.weights.wq = layer.weights.wk = layer.weights.wv =
      layer.weights.wo = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  // q . k is 0 and 2 ln 3; halved by 1 / sqrt(4).
  const TestSequence sequence = {.q_len = 1,
                                 .kv_len = 2,
                                 .query = {1, 1, 0, 0},
                                 .key = {0, 0, 5, 5, kLn3, kLn3, 5, 5},
                                 .value = {0, 0, 0, 4, 0, 0, 0, 8}};
  const ReferenceResult result = Attend(layer, sequence);
  ExpectNear(result.weights, {0.25, 0.75}, kF32);
  ExpectNear(result.output, {0, 0, 0, 7}, kF32);
}

TEST(ReferenceTest, AddsTheBiases) {
  TestLayer layer = Identity();
  layer.weights.bq = {1};
  layer.weights.bk = {kLn3};
  layer.weights.bv = {10};
  layer.weights.bo = {100};
  // q = 1, k = 0 and ln 3, v = 18 and 14.
  const ReferenceResult result = Attend(layer, Scalars({0}, {-kLn3, 0}, {8, 4}));
  ExpectNear(result.weights, {0.25, 0.75}, kF32);
  ExpectNear(result.output, {115}, kF32);
}

TEST(ReferenceTest, SharesAKeyHeadAmongConsecutiveQueryHeads) {
  TestLayer layer;
  layer.config =
      AttentionConfig{.embed_dim = 4, .num_heads = 4, .num_kv_heads = 2, .kdim = 1, .vdim = 2}.Resolved();
  layer.weights.wq = layer.weights.wo = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  layer.weights.wk = {1, -1};       // kv head 0 sees the key, kv head 1 its negative
  layer.weights.wv = {1, 0, 0, 1};  // kv head 0 the first value, kv head 1 the second
  const TestSequence sequence = {
      .q_len = 1, .kv_len = 2, .query = {0, 1, 0, 1}, .key = {0, kLn3}, .value = {0, 0, 4, 40}};
  const ReferenceResult result = Attend(layer, sequence);
  ExpectNear(result.weights, {0.5, 0.5, 0.25, 0.75, 0.5, 0.5, 0.75, 0.25}, kF32);
  ExpectNear(result.output, {2, 3, 20, 10}, 1e-5);
}

TEST(ReferenceTest, KeepsSequencesApart) {
  const TestLayer layer = Identity();
  const TestSequence first = Scalars({1}, {0, kLn3}, {8, 4});
  const TestSequence second = Scalars({0, 1}, {7}, {3});
  const TestBatch batch(layer.config, {&first, &second}, WeightsSink::Mode::kNone);
  const std::vector<ReferenceResult> results = ReferenceAttention(layer.config, layer.weights, batch.batch());
  ASSERT_EQ(results.size(), 2u);
  ExpectNear(results[0].output, {5}, kF32);
  ExpectNear(results[1].output, {3, 3});
}

TEST(ReferenceTest, CausalHidesLaterKeys) {
  TestSequence sequence = Scalars({0, 0}, {1, 2, 3}, {3, 6, 9});
  sequence.visibility.causal = true;
  const ReferenceResult result = Attend(Identity(), sequence);
  ExpectNear(result.weights, {0.5, 0.5, 0, 1.0 / 3, 1.0 / 3, 1.0 / 3});
  ExpectNear(result.output, {4.5, 6});
}

TEST(ReferenceTest, WindowsHideDistantKeys) {
  TestSequence sequence = Scalars({0, 0, 0}, {1, 2, 3}, {3, 6, 9});
  sequence.visibility = {.window_left = 0, .window_right = 1};
  ExpectNear(Attend(Identity(), sequence).weights, {0.5, 0.5, 0, 0, 0.5, 0.5, 0, 0, 1});
}

TEST(ReferenceTest, BooleanMasksForbid) {
  TestSequence sequence = Scalars({0, 0}, {1, 2}, {3, 6});
  sequence.mask = TestMask(DType::kBool, 1, 2, 2);
  sequence.mask.SetAllowed(0, 1, 0, false);
  ExpectNear(Attend(Identity(), sequence).weights, {0.5, 0.5, 0, 1});
}

TEST(ReferenceTest, AdditiveMasksShiftScoresAndForbidByInfinity) {
  TestSequence sequence = Scalars({0}, {1, 2, 3}, {4, 8, 1000});
  sequence.mask = TestMask(DType::kF32, 1, 1, 3);
  sequence.mask.SetTerm(0, 0, 1, kLn3);
  sequence.mask.SetTerm(0, 0, 2, -kInfinity);
  const ReferenceResult result = Attend(Identity(), sequence);
  ExpectNear(result.weights, {0.25, 0.75, 0}, kF32);
  ExpectNear(result.output, {7}, 1e-5);
}

TEST(ReferenceTest, MasksMayDifferByHead) {
  TestSequence sequence = Scalars({0}, {1, 2}, {3, 6});
  sequence.mask = TestMask(DType::kBool, 2, 1, 2);
  sequence.mask.SetAllowed(0, 0, 0, false);
  sequence.mask.SetAllowed(1, 0, 1, false);
  const ReferenceResult result = Attend(TwoHeads(), sequence);
  ExpectNear(result.weights, {0, 1, 1, 0});
  ExpectNear(result.output, {9});
}

TEST(ReferenceTest, AQueryWithoutKeysGetsTheBias) {
  TestLayer layer = Identity();
  layer.weights.bo = {7};
  TestSequence sequence = Scalars({1, 1}, {1}, {3});
  sequence.visibility.causal = true;  // aligned at the end: the first query is before the only key
  const ReferenceResult result = Attend(layer, sequence);
  ExpectNear(result.weights, {0, 1});
  ExpectNear(result.output, {7, 10});
}

TEST(ReferenceTest, ForbiddenKeysDoNotMatterEvenIfNotFinite) {
  TestSequence sequence = Scalars({0, 0}, {1, kInfinity}, {3, std::nanf("")});
  sequence.visibility.causal = true;
  const ReferenceResult result = Attend(Identity(), sequence);
  EXPECT_EQ(result.output[0], 3.0);
  EXPECT_TRUE(std::isnan(result.output[1]));
}

TEST(ReferenceTest, AppendedKeysAreBeyondMasksAndPositions) {
  TestLayer layer = Identity();
  layer.config.add_bias_kv = true;
  layer.weights.bias_k = {kLn3};
  layer.weights.bias_v = {8};
  layer.config.add_zero_attn = true;
  TestSequence sequence = Scalars({1}, {5, 5}, {100, 100});
  sequence.mask = TestMask(DType::kBool, 1, 1, 2);
  sequence.mask.SetAllowed(0, 0, 0, false);
  sequence.mask.SetAllowed(0, 0, 1, false);
  const ReferenceResult result = Attend(layer, sequence);
  EXPECT_EQ(result.kv_len, 4);
  EXPECT_EQ(result.own_kv_len, 2);
  ExpectNear(result.weights, {0, 0, 0.75, 0.25}, kF32);
  ExpectNear(result.output, {6}, kF32);
}

// A layer of one head of width 4 that changes nothing, with RoPE at an angle of 1 and 0.01 per position.
// Scores are q . k of the turned vectors.
TestLayer Rotating(const RopeConfig& rope = {}) {
  TestLayer layer;
  layer.config = AttentionConfig{.embed_dim = 4, .num_heads = 1, .scale = 1.0, .rope = rope}.Resolved();
  layer.weights.wq = layer.weights.wk = layer.weights.wv =
      layer.weights.wo = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  return layer;
}

using Vector4 = std::vector<float>;

// The score of the last key minus that of the first, for the first of q_len equal queries to kv_len equal
// keys.
double ScoreGap(const TestLayer& layer, const Vector4& query, int64_t q_len, const Vector4& key,
                int64_t kv_len) {
  TestSequence sequence = {.q_len = q_len, .kv_len = kv_len};
  for (int64_t i = 0; i < q_len; ++i) sequence.query.insert(sequence.query.end(), query.begin(), query.end());
  for (int64_t j = 0; j < kv_len; ++j) sequence.key.insert(sequence.key.end(), key.begin(), key.end());
  sequence.value = sequence.key;
  const ReferenceResult result = Attend(layer, sequence);
  return std::log(result.weights[kv_len - 1] / result.weights[0]);
}

TEST(ReferenceRopeTest, TurnsThePairsOfTheTwoHalves) {
  // One query at position 1, keys at 0 and 1. The pairs are dimensions (0, 2) and (1, 3).
  EXPECT_NEAR(ScoreGap(Rotating(), {1, 0, 0, 0}, 1, {1, 0, 0, 0}, 2), 1 - std::cos(1.0), 1e-13);
  EXPECT_NEAR(ScoreGap(Rotating(), {1, 0, 0, 0}, 1, {0, 0, 1, 0}, 2), 0 - std::sin(1.0), 1e-13);
  EXPECT_NEAR(ScoreGap(Rotating(), {0, 0, 1, 0}, 1, {1, 0, 0, 0}, 2), 0 + std::sin(1.0), 1e-13);
  EXPECT_NEAR(ScoreGap(Rotating(), {0, 1, 0, 0}, 1, {0, 0, 0, 1}, 2), 0 - std::sin(0.01), 1e-13);
  EXPECT_NEAR(ScoreGap(Rotating(), {1, 0, 0, 0}, 1, {0, 1, 0, 1}, 2), 0, 1e-13);
}

TEST(ReferenceRopeTest, TurnsNeighboursWhenInterleaved) {
  const TestLayer layer = Rotating({.interleaved = true});
  EXPECT_NEAR(ScoreGap(layer, {1, 0, 0, 0}, 1, {0, 1, 0, 0}, 2), -std::sin(1.0), 1e-13);
  EXPECT_NEAR(ScoreGap(layer, {0, 0, 1, 0}, 1, {0, 0, 0, 1}, 2), -std::sin(0.01), 1e-13);
  EXPECT_NEAR(ScoreGap(layer, {1, 0, 0, 0}, 1, {0, 0, 1, 1}, 2), 0, 1e-13);
}

TEST(ReferenceRopeTest, LeavesTheDimensionsBeyondRotaryDimAlone) {
  const TestLayer layer = Rotating({.rotary_dim = 2});
  EXPECT_NEAR(ScoreGap(layer, {1, 0, 0, 0}, 1, {0, 1, 0, 0}, 2), -std::sin(1.0), 1e-13);
  EXPECT_NEAR(ScoreGap(layer, {0, 0, 1, 1}, 1, {0, 0, 1, 1}, 2), 0, 1e-13);
}

TEST(ReferenceRopeTest, QueriesBeforeTheFirstKeyStandAtNegativePositions) {
  // Four queries to two keys: the first one stands at -2. sin(-2 - 1) - sin(-2 - 0).
  EXPECT_NEAR(ScoreGap(Rotating(), {1, 0, 0, 0}, 4, {0, 0, 1, 0}, 2), std::sin(-3.0) - std::sin(-2.0), 1e-13);
}

TEST(ReferenceRopeTest, ScalesTheAngles) {
  using Scaling = RopeConfig::Scaling;
  const Vector4 a = {1, 0, 0, 0}, b = {0, 0, 1, 0}, slow_a = {0, 1, 0, 0}, slow_b = {0, 0, 0, 1};
  EXPECT_NEAR(ScoreGap(Rotating({.scaling = Scaling::kLinear, .factor = 4.0}), a, 1, b, 2), -std::sin(0.25),
              1e-13);
  // theta 10^4 * 9^(4 / 2): the second angle is a ninth.
  const TestLayer ntk = Rotating({.scaling = Scaling::kNtk, .factor = 9.0});
  EXPECT_NEAR(ScoreGap(ntk, a, 1, b, 2), -std::sin(1.0), 1e-13);
  EXPECT_NEAR(ScoreGap(ntk, slow_a, 1, slow_b, 2), -std::sin(0.01 / 9), 1e-13);
  // Waves of 2 pi and 200 pi tokens; fast are those below 100 / 4, slow those above 100.
  const TestLayer llama3 = Rotating({.scaling = Scaling::kLlama3, .factor = 8.0, .original_max_len = 100});
  EXPECT_NEAR(ScoreGap(llama3, a, 1, b, 2), -std::sin(1.0), 1e-13);
  EXPECT_NEAR(ScoreGap(llama3, slow_a, 1, slow_b, 2), -std::sin(0.01 / 8), 1e-13);
}

TEST(ReferenceRopeTest, TurnsEveryHeadAlike) {
  TestLayer layer;
  layer.config = AttentionConfig{.embed_dim = 2,
                                 .num_heads = 2,
                                 .num_kv_heads = 1,
                                 .head_dim = 2,
                                 .scale = 1.0,
                                 .rope = RopeConfig{}}
                     .Resolved();
  layer.weights.wq = {1, 0, 0, 1, 0, 1, 1, 0};  // head 1 sees the query's halves swapped
  layer.weights.wk = layer.weights.wv = {1, 0, 0, 1};
  layer.weights.wo = {1, 0, 0, 1, 1, 0, 0, 1};
  const TestSequence sequence = {
      .q_len = 1, .kv_len = 2, .query = {1, 0}, .key = {1, 0, 1, 0}, .value = {1, 0, 1, 0}};
  const ReferenceResult result = Attend(layer, sequence);
  EXPECT_NEAR(std::log(result.weights[1] / result.weights[0]), 1 - std::cos(1.0), 1e-13);
  EXPECT_NEAR(std::log(result.weights[3] / result.weights[2]), std::sin(1.0), 1e-13);
}

TEST(ReferenceTest, AlibiSubtractsTheDistanceTimesTheHeadsSlope) {
  TestLayer layer = TwoHeads();
  layer.config.alibi = true;
  // The first query stands at position 1; of two heads the slopes are 2^-4 and 2^-8.
  const ReferenceResult result = Attend(layer, Scalars({0, 0}, {1, 1, 1}, {0, 0, 0}));
  const auto log_ratio = [&](int64_t head, int64_t query, int64_t key, int64_t to_key) {
    const double* row = result.weights.data() + (head * 2 + query) * 3;
    return std::log(row[key] / row[to_key]);
  };
  EXPECT_NEAR(log_ratio(0, 0, 0, 1), -1.0 / 16, 1e-13);
  EXPECT_NEAR(log_ratio(0, 0, 2, 1), -1.0 / 16, 1e-13) << "later keys count as earlier ones do";
  EXPECT_NEAR(log_ratio(0, 1, 0, 2), -2.0 / 16, 1e-13);
  EXPECT_NEAR(log_ratio(1, 1, 0, 2), -2.0 / 256, 1e-13);
}

TEST(ReferenceTest, SoftcapBendsScoresBeforeTheMask) {
  TestLayer layer = Identity();
  layer.config.logit_softcap = 2.0;
  TestSequence sequence = Scalars({1}, {0, 4, -100}, {0, 0, 0});
  sequence.mask = TestMask(DType::kF32, 1, 1, 3);
  sequence.mask.SetTerm(0, 0, 0, 5.0f);
  const std::vector<double> weights = Attend(layer, sequence).weights;
  EXPECT_NEAR(std::log(weights[1] / weights[0]), 2 * std::tanh(2.0) - 5, 1e-13);
  EXPECT_NEAR(std::log(weights[2] / weights[0]), -2 - 5, 1e-13);
}

TEST(ReferenceTest, TheLayersWindowAndTheRequestsBothHold) {
  TestLayer layer = Identity();
  layer.config.window_left = 1;
  layer.config.window_right = 1;
  TestSequence sequence = Scalars({0, 0, 0}, {1, 2, 3}, {3, 6, 9});
  ExpectNear(Attend(layer, sequence).weights, {0.5, 0.5, 0, 1.0 / 3, 1.0 / 3, 1.0 / 3, 0, 0.5, 0.5});
  sequence.visibility = {.causal = true, .window_left = 7};
  ExpectNear(Attend(layer, sequence).weights, {1, 0, 0, 0.5, 0.5, 0, 0, 0.5, 0.5});
  sequence.visibility = {.window_left = 0};
  ExpectNear(Attend(layer, sequence).weights, {0.5, 0.5, 0, 0, 0.5, 0.5, 0, 0, 1});
}

TEST(ReferenceTest, AppendedKeysFeelTheSoftcapAloneOfAllThatDependsOnPosition) {
  TestLayer layer = Rotating();
  layer.config.alibi = true;
  layer.config.logit_softcap = 1.0;
  layer.config.window_left = 0;
  layer.config.add_bias_kv = layer.config.add_zero_attn = true;
  layer.weights.bias_k = {3, 0, 0, 0};
  layer.weights.bias_v = {0, 0, 0, 0};
  // The query stands at position 1, so it is turned to (cos 1, 0, sin 1, 0); only its own key is in the
  // window.
  const TestSequence sequence = {.q_len = 1,
                                 .kv_len = 2,
                                 .query = {1, 0, 0, 0},
                                 .key = {9, 9, 9, 9, 2, 0, 0, 0},
                                 .value = {0, 0, 0, 0, 0, 0, 0, 0}};
  const std::vector<double> weights = Attend(layer, sequence).weights;
  ASSERT_EQ(weights.size(), 4u);
  EXPECT_EQ(weights[0], 0.0);
  EXPECT_NEAR(std::log(weights[1] / weights[3]), std::tanh(2.0), 1e-13);
  EXPECT_NEAR(std::log(weights[2] / weights[3]), std::tanh(3 * std::cos(1.0)), 1e-13);
}

// As numbers() of tests/golden/multihead_attention.py.
std::vector<float> Numbers(int seed, int64_t count) {
  std::vector<float> numbers(count);
  for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<float>((seed + 37 * i) % 23 - 11) / 16;
  return numbers;
}

TestLayer GoldenLayer(int64_t kdim, int64_t vdim) {
  TestLayer layer;
  layer.config = AttentionConfig{.embed_dim = 4, .num_heads = 2, .kdim = kdim, .vdim = vdim}.Resolved();
  layer.weights = {.wq = Numbers(1, 16),
                   .wk = Numbers(2, kdim * 4),
                   .wv = Numbers(3, vdim * 4),
                   .wo = Numbers(4, 16),
                   .bq = Numbers(5, 4),
                   .bk = Numbers(6, 4),
                   .bv = Numbers(7, 4),
                   .bo = Numbers(8, 4)};
  return layer;
}

TEST(ReferenceGoldenTest, AppendsKeysAsTorchDoes) {
  TestLayer layer = GoldenLayer(6, 3);
  layer.config.add_bias_kv = true;
  layer.weights.bias_k = Numbers(9, 4);
  layer.weights.bias_v = Numbers(10, 4);
  layer.config.add_zero_attn = true;
  TestSequence sequence = {
      .q_len = 2, .kv_len = 3, .query = Numbers(11, 8), .key = Numbers(12, 18), .value = Numbers(13, 9)};
  sequence.mask = TestMask(DType::kF32, 1, 2, 3);
  const std::vector<float> terms = Numbers(14, 6);
  for (int64_t i = 0; i < 6; ++i) sequence.mask.SetTerm(0, i / 3, i % 3, terms[i]);

  const ReferenceResult result = Attend(layer, sequence);
  ExpectNear(result.output, {-0.0431841112879027, 0.67370156547479, 0.214982068202808, -0.199974059406522,
                             -0.150378378868828, 0.798477356811949, 0.123602189460945, -0.227199691588131});
  ExpectNear(result.weights, {0.264574740300808,  0.114448199001618,  0.382648989899384,  0.100776974725084,
                              0.137551096073106,  0.142377486963029,  0.0584778008890382, 0.632056562231279,
                              0.0706743086611606, 0.0964138412554926, 0.258903233267176,  0.119699152662612,
                              0.290938664093524,  0.166213546222872,  0.164245403753816,  0.161797257960211,
                              0.112874705805318,  0.350392017238075,  0.204075256773145,  0.170860762223251});
}

TEST(ReferenceGoldenTest, MasksAsTorchDoes) {
  const TestLayer layer = GoldenLayer(4, 4);
  const std::vector<float> x = Numbers(15, 12);
  TestSequence sequence = {.q_len = 3, .kv_len = 3, .query = x, .key = x, .value = x};
  sequence.visibility.causal = true;
  sequence.mask = TestMask(DType::kBool, 1, 3, 3);
  for (int64_t query = 0; query < 3; ++query) sequence.mask.SetAllowed(0, query, 2, false);

  const ReferenceResult result = Attend(layer, sequence);
  ExpectNear(result.output, {0.550537109375, -0.101806640625, 0.806884765625, -0.1318359375,
                             -0.154295004483992, 0.980935450524927, -0.001461680329291, 0.280122727994251,
                             0.042871674117784, 0.658756604061793, 0.232878090114402, 0.0250832029173471});
  ExpectNear(MeanWeights(result, 2),
             {1, 0, 0, 0.39786594502496, 0.60213405497504, 0, 0.573966469542073, 0.426033530457927, 0});
}

// Weights of two heads, three queries and four keys of which the last one is appended; the last query sees
// nothing.
ReferenceResult SomeWeights() {
  return {.q_len = 3, .kv_len = 4, .own_kv_len = 3, .output = {}, .weights = {0.5, 0.25, 0.25, 0, 0, 0.5,
                                                                              0,   0.5,  0,    0, 0, 0,  //
                                                                              1,   0,    0,    0, 0, 1,
                                                                              0,   0,    0,    0, 0, 0}};
}

TEST(MeanWeightsTest, AveragesOverTheHeads) {
  EXPECT_THAT(MeanWeights(SomeWeights(), 2),
              ElementsAre(0.75, 0.125, 0.125, 0, 0, 0.75, 0, 0.25, 0, 0, 0, 0));
}

TEST(TopKTest, OrdersByWeightThenByKey) {
  const TopKeys top = TopK(SomeWeights(), 0, 0, 3);
  EXPECT_THAT(top.keys, ElementsAre(0, 1, 2));
  EXPECT_THAT(top.weights, ElementsAre(0.5, 0.25, 0.25));
  EXPECT_THAT(TopK(SomeWeights(), 0, 1, 2).keys, ElementsAre(1, 3));
}

TEST(TopKTest, FillsUpWhereFewerWeightsAreAboveZero) {
  const TopKeys top = TopK(SomeWeights(), 1, 0, 6);
  EXPECT_THAT(top.keys, ElementsAre(0, -1, -1, -1, -1, -1));
  EXPECT_THAT(top.weights, ElementsAre(1, 0, 0, 0, 0, 0));
  EXPECT_THAT(TopK(SomeWeights(), 0, 2, 1).keys, ElementsAre(-1)) << "a query that sees nothing";
}

TEST(GridOfTest, AveragesOverCellsAsEvenAsWholeNumbersAllow) {
  // Two rows: query 0, then queries 1 and 2, of which the last one sees nothing.
  EXPECT_THAT(GridOf(SomeWeights(), 0, 0, 3, 2, 2), ElementsAre(0.375, 0.125, 0.125, 0.125));
  // Three columns of 1, 1 and 2 keys.
  EXPECT_THAT(GridOf(SomeWeights(), 0, 0, 1, 1, 3), ElementsAre(0.5, 0.25, 0.125));
  EXPECT_THAT(GridOf(SomeWeights(), 1, 1, 2, 1, 4), ElementsAre(0, 1, 0, 0)) << "single weights";
  EXPECT_THAT(GridOf(SomeWeights(), 1, 0, 3, 1, 1), ElementsAre(2.0 / 12));
  EXPECT_THAT(GridOf(SomeWeights(), 1, 2, 2, 0, 4), SizeIs(0)) << "of no queries";
}

TEST(SummarizeTest, AveragesOverTheQueriesThatSeeAKey) {
  const HeadSummary summary = Summarize(SomeWeights(), 0, 0, 3);
  // Query 0: entropy 1.5 ln 2, distances 0, 1, 2. Query 1: entropy ln 2, its own position, and the appended
  // key, which has no distance. Query 2 sees nothing.
  EXPECT_DOUBLE_EQ(summary.entropy_nats, (1.5 * std::log(2.0) + std::log(2.0)) / 2);
  EXPECT_DOUBLE_EQ(summary.distance_tokens, (0.25 * 1 + 0.25 * 2 + 0) / 2);
  EXPECT_DOUBLE_EQ(summary.max_weight, 0.5);
  EXPECT_DOUBLE_EQ(summary.self_mass, 0.5);
  EXPECT_DOUBLE_EQ(summary.first_token_mass, 0.25);
  EXPECT_DOUBLE_EQ(summary.effective_support, (1 / 0.375 + 1 / 0.5) / 2);
  EXPECT_THAT(summary.received_mass, ElementsAre(0.5, 0.75, 0.25, 0.5));
}

TEST(SummarizeTest, KeepsToItsRangeOfQueries) {
  const HeadSummary summary = Summarize(SomeWeights(), 1, 1, 2);
  EXPECT_EQ(summary.entropy_nats, 0.0);
  EXPECT_EQ(summary.self_mass, 1.0);
  EXPECT_THAT(summary.received_mass, ElementsAre(0, 1, 0, 0));
}

TEST(SummarizeTest, IsZeroWithoutAnAllowedKey) {
  const HeadSummary summary = Summarize(SomeWeights(), 0, 2, 3);
  EXPECT_EQ(summary.effective_support, 0.0);
  EXPECT_EQ(summary.max_weight, 0.0);
  EXPECT_THAT(summary.received_mass, ElementsAre(0, 0, 0, 0));
}

TEST(SummarizeTest, AlignsPositionsAtTheEnd) {
  // Two queries of four keys stand at positions 2 and 3; the first attends to key 0, the second to key 3.
  const ReferenceResult result = {
      .q_len = 2, .kv_len = 4, .own_kv_len = 4, .output = {}, .weights = {1, 0, 0, 0, 0, 0, 0, 1}};
  const HeadSummary summary = Summarize(result, 0, 0, 2);
  EXPECT_DOUBLE_EQ(summary.distance_tokens, 1.0);
  EXPECT_DOUBLE_EQ(summary.self_mass, 0.5);
}

}  // namespace
}  // namespace headlight
