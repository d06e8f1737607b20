// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a row depends on that row and the keys that it sees: bit by bit, for all kernels and
// semantics, with scores from ordinary to enormous, outliers and numbers that are not finite.
#include "core/attention/tiled/block_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/core/testing/expect_near.h"
#include "tests/core/testing/kernel_fixture.h"
#include "tests/core/testing/test_problem.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::kSinkModes;
using testing::RandomInputs;
using testing::Rng;
using testing::SameBits;
using testing::SinkRequest;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestMask;
using testing::TestSequence;

constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// Scales of the scores: as they are, far beyond what the fast softmax can take, and up to 1e4 and more.
constexpr double kScales[] = {0.25, 30.0, 3000.0};

class BlockAttentionTest : public testing::KernelTest {
 protected:
  // Every semantic, small enough to be quick.
  static std::vector<TestLayer> Layers() {
    const AttentionConfig plain = {.embed_dim = 32, .num_heads = 2, .head_dim = 16};
    std::vector<AttentionConfig> configs(7, plain);
    configs[1].rope = RopeConfig{};
    configs[2].alibi = true;
    configs[3].logit_softcap = 20.0;
    configs[4].window_left = 90;
    configs[5].num_kv_heads = 1;
    configs[5].head_dim = 40;
    configs[6].add_bias_kv = configs[6].add_zero_attn = true;
    std::vector<TestLayer> layers;
    for (AttentionConfig& config : configs) {
      for (const double scale : kScales) {
        config.scale = scale;
        const AttentionConfig resolved = config.Resolved();
        layers.push_back({resolved, RandomParameters(resolved, 11)});
      }
    }
    return layers;
  }

  // Rows of which some are ten times as large as the others: their scores alone run away.
  static TestSequence Outliers(Rng& rng, const AttentionConfig& config, int64_t q_len, int64_t kv_len) {
    TestSequence sequence = RandomInputs(rng, config, q_len, kv_len);
    for (int64_t row = 5; row < q_len; row += 37) Scale(sequence.query, row, config.embed_dim, 10.0f);
    for (int64_t row = 70; row < kv_len; row += 101) Scale(sequence.key, row, config.kdim, 10.0f);
    return sequence;
  }

  static void Scale(std::vector<float>& rows, int64_t row, int64_t width, float factor) {
    for (int64_t i = 0; i < width; ++i) rows[row * width + i] *= factor;
  }

  // -10000 on the first 64 keys, none where some rows see nothing else.
  static TestMask LeftMask(int64_t q_len, int64_t kv_len) {
    TestMask mask(DType::kF32, 1, q_len, kv_len);
    for (int64_t query = 0; query < q_len; ++query) {
      for (int64_t key = 0; key < kv_len; ++key) mask.SetTerm(0, query, key, key < 64 ? -10000.0f : 0.5f);
    }
    return mask;
  }

  AttentionLayer MustCreate(const TestLayer& layer) const {
    absl::StatusOr<AttentionLayer> attention = Create(layer);
    EXPECT_THAT(attention, IsOk());
    return *std::move(attention);
  }

  std::vector<float> Output(const AttentionLayer& attention, const TestSequence& sequence,
                            WeightsSink::Mode mode = WeightsSink::Mode::kNone) {
    TestBatch batch(attention.config(), {&sequence}, mode);
    EXPECT_THAT(attention.Forward(batch.batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
    return batch.Output(0);
  }

  static std::vector<float> Row(const std::vector<float>& rows, int64_t row, int64_t width) {
    return {rows.begin() + row * width, rows.begin() + (row + 1) * width};
  }

  // Of the rows [0, end).
  static void ExpectSameRows(const std::vector<float>& got, const std::vector<float>& wanted, int64_t end,
                             int64_t width) {
    for (int64_t row = 0; row < end; ++row) {
      EXPECT_TRUE(SameBits(Row(got, row, width), Row(wanted, row, width))) << "row " << row;
    }
  }

  // One query of a causal sequence, with the keys up to its own.
  static TestSequence Alone(const AttentionConfig& config, const TestSequence& sequence, int64_t row) {
    TestSequence alone;
    alone.q_len = 1;
    alone.kv_len = row + 1;
    alone.query = Row(sequence.query, row, config.embed_dim);
    alone.key.assign(sequence.key.begin(), sequence.key.begin() + (row + 1) * config.kdim);
    alone.value.assign(sequence.value.begin(), sequence.value.begin() + (row + 1) * config.vdim);
    alone.visibility.causal = true;
    return alone;
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, BlockAttentionTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

TEST_P(BlockAttentionTest, TheOutputHasTheSameBitsWhateverIsAskedWhateverTheScores) {
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const AttentionLayer attention = MustCreate(layer);
    Rng rng = MakeRng(0);
    for (const bool causal : {false, true}) {
      TestSequence sequence = Outliers(rng, layer.config, 150, 600);
      sequence.visibility.causal = causal;
      std::fill_n(sequence.query.begin() + 100 * layer.config.embed_dim, layer.config.embed_dim, kNotANumber);
      std::fill_n(sequence.query.begin() + 101 * layer.config.embed_dim, layer.config.embed_dim, kInf);
      const std::vector<float> plain = Output(attention, sequence);
      for (const WeightsSink::Mode mode : kSinkModes) {
        EXPECT_TRUE(SameBits(Output(attention, sequence, mode), plain)) << static_cast<int>(mode);
      }
    }
  }
}

// The case that started it: queries whose scores run away beside others whose scores do not.
TEST_P(BlockAttentionTest, ARowThatRunsAwayLeavesItsNeighboursAlone) {
  AttentionConfig config = {.embed_dim = 16, .num_heads = 1, .head_dim = 16, .scale = 1.0};
  TestLayer layer{config.Resolved(), RandomParameters(config.Resolved(), 3)};
  std::fill(layer.weights.wq.begin(), layer.weights.wq.end(), 0.0f);
  std::fill(layer.weights.wk.begin(), layer.weights.wk.end(), 0.0f);
  for (int i = 0; i < 16; ++i) layer.weights.wq[i * 17] = layer.weights.wk[i * 17] = 1.0f;
  Rng rng = MakeRng(0);
  TestSequence sequence = RandomInputs(rng, layer.config, 128, 128, 0.1f);
  for (int64_t key = 64; key < 128; ++key) sequence.key[key * 16] = 100.0f;
  const AttentionLayer attention = MustCreate(layer);
  const std::vector<float> before = Output(attention, sequence);
  for (int64_t query = 64; query < 128; ++query) sequence.query[query * 16] = 1.0f;
  const std::vector<float> after = Output(attention, sequence);
  ExpectSameRows(after, before, 64, 16);
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
  ASSERT_THAT(attention.Forward(batch.batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
  EXPECT_TRUE(SameBits(batch.Output(0), after));
  ExpectNearReference(layer, batch, precision());
}

TEST_P(BlockAttentionTest, AQueryThatIsNotFiniteHarmsNoOther) {
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const int64_t width = layer.config.embed_dim;
    const AttentionLayer attention = MustCreate(layer);
    Rng rng = MakeRng(0);
    TestSequence sequence = Outliers(rng, layer.config, 130, 200);
    const std::vector<float> before = Output(attention, sequence);
    sequence.query[100 * width + 3] = kNotANumber;
    sequence.query[7 * width] = kInf;
    const std::vector<float> after = Output(attention, sequence);
    for (int64_t row = 0; row < 130; ++row) {
      if (row == 100 || row == 7) {
        EXPECT_FALSE(std::isfinite(after[row * width])) << "row " << row;
      } else {
        EXPECT_TRUE(SameBits(Row(after, row, width), Row(before, row, width))) << "row " << row;
      }
    }
  }
}

// A token whose key and value are not finite is none of the business of those before it.
TEST_P(BlockAttentionTest, AKeyThatIsNotFiniteHarmsOnlyThoseWhoSeeIt) {
  for (const float bad : {kNotANumber, kInf, -kInf}) {
    for (const TestLayer& layer : Layers()) {
      SCOPED_TRACE(Describe(layer.config));
      const int64_t width = layer.config.embed_dim;
      const AttentionLayer attention = MustCreate(layer);
      Rng rng = MakeRng(0);
      TestSequence sequence = RandomInputs(rng, layer.config, 150, 150);
      sequence.visibility.causal = true;
      const std::vector<float> before = Output(attention, sequence);
      constexpr int64_t kBad = 83;
      for (std::vector<float>* rows : {&sequence.key, &sequence.value}) (*rows)[kBad * width + 2] = bad;
      const std::vector<float> after = Output(attention, sequence);
      ExpectSameRows(after, before, kBad, width);
      EXPECT_FALSE(std::isfinite(after[kBad * width]));
    }
  }
}

TEST_P(BlockAttentionTest, AForbiddenValueMayBeInfinite) {
  AttentionConfig config = {.embed_dim = 32, .num_heads = 2};
  const TestLayer layer{config.Resolved(), RandomParameters(config.Resolved(), 5)};
  const AttentionLayer attention = MustCreate(layer);
  Rng rng = MakeRng(0);
  TestSequence sequence = RandomInputs(rng, layer.config, 20, 100);
  sequence.mask = TestMask(DType::kBool, 1, 20, 100);
  for (int64_t query = 0; query < 20; ++query) {
    for (int64_t key = 0; key < 100; ++key) sequence.mask.SetAllowed(0, query, key, key != 5);
  }
  std::fill_n(sequence.value.begin() + 5 * 32, 32, kInf);
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
  ASSERT_THAT(attention.Forward(batch.batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
  ExpectNearReference(layer, batch, precision());
}

// Decoding token by token, prefilling and all at once give the same bits.
TEST_P(BlockAttentionTest, AQueryHasTheSameBitsAloneAndAmongOthers) {
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const int64_t width = layer.config.embed_dim;
    const AttentionLayer attention = MustCreate(layer);
    Rng rng = MakeRng(0);
    TestSequence sequence = Outliers(rng, layer.config, 600, 600);
    sequence.visibility.causal = true;
    const std::vector<float> whole = Output(attention, sequence);
    for (const int64_t row :
         {0, 1, 5, 15, 16, 42, 62, 63, 64, 65, 79, 127, 128, 129, 301, 510, 511, 512, 513, 599}) {
      const TestSequence alone = Alone(layer.config, sequence, row);
      EXPECT_TRUE(SameBits(Output(attention, alone), Row(whole, row, width))) << "row " << row;
    }
  }
}

TEST_P(BlockAttentionTest, ALeftMaskChangesNoBitOfThePartsOfASequence) {
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const int64_t width = layer.config.embed_dim;
    const AttentionLayer attention = MustCreate(layer);
    Rng rng = MakeRng(0);
    TestSequence sequence = Outliers(rng, layer.config, 200, 200);
    sequence.visibility.causal = true;
    sequence.mask = LeftMask(200, 200);
    const std::vector<float> whole = Output(attention, sequence);
    for (const int64_t row : {0, 63, 64, 130, 199}) {
      TestSequence alone = Alone(layer.config, sequence, row);
      alone.mask = LeftMask(1, row + 1);
      EXPECT_TRUE(SameBits(Output(attention, alone), Row(whole, row, width))) << "row " << row;
    }
    TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
    ASSERT_THAT(attention.Forward(batch.batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
    EXPECT_TRUE(SameBits(batch.Output(0), whole));
    if (*layer.config.scale < 1.0) ExpectNearReference(layer, batch, precision());
  }
}

// Sums that stay small beside values that do not: the products overflow before the sums say so.
TEST_P(BlockAttentionTest, LargeValuesAreNotTakenForInfinite) {
  AttentionConfig config = {.embed_dim = 16, .num_heads = 1, .head_dim = 16, .scale = 1.0};
  TestLayer layer{config.Resolved(), RandomParameters(config.Resolved(), 3)};
  for (std::vector<float>* matrix :
       {&layer.weights.wq, &layer.weights.wk, &layer.weights.wv, &layer.weights.wo}) {
    std::fill(matrix->begin(), matrix->end(), 0.0f);
    for (int i = 0; i < 16; ++i) (*matrix)[i * 17] = 1.0f;
  }
  Rng rng = MakeRng(0);
  TestSequence sequence = RandomInputs(rng, layer.config, 4, 128, 0.01f);
  for (int64_t query = 0; query < 4; ++query) sequence.query[query * 16] = 1.0f;
  sequence.key[100 * 16] = 40.0f;  // e^40 = 2^57.7
  for (int i = 0; i < 16; ++i) sequence.value[100 * 16 + i] = 1e22f;
  const AttentionLayer attention = MustCreate(layer);
  for (const float x : Output(attention, sequence)) EXPECT_NEAR(x, 1e22f, 1e20f);
}

}  // namespace
}  // namespace headlight
