// SPDX-License-Identifier: Apache-2.0
//
// What the bits of a sequence's results must not depend on: its neighbours, the threads, the kind of weights
// asked for, what the workspace held before, other calls at the same time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/attention/multi_head_attention.h"
#include "core/runtime/cancellation.h"
#include "core/runtime/compute_arena.h"
#include "tests/core/testing/effort.h"
#include "tests/core/testing/kernel_fixture.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::Describe;
using testing::IsOk;
using testing::MakeRng;
using testing::OneIn;
using testing::RandomInputs;
using testing::RandomLayer;
using testing::RandomMask;
using testing::Repetitions;
using testing::Rng;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestSequence;
using testing::UniformInt;

class KernelIndependenceTest : public testing::KernelTest {
 protected:
  // The layers to try: an ordinary one, one of odd widths, and two with products of 4096 terms, where
  // oneDNN's own matmul gives a single row other bits than the same row among others.
  static std::vector<TestLayer> Layers() {
    std::vector<TestLayer> layers;
    for (const AttentionConfig& config : {
             AttentionConfig{.embed_dim = 128, .num_heads = 2},
             AttentionConfig{.embed_dim = 75, .num_heads = 6, .num_kv_heads = 3, .head_dim = 17, .kdim = 33},
             AttentionConfig{.embed_dim = 4096, .num_heads = 1, .head_dim = 8},
             AttentionConfig{.embed_dim = 24, .num_heads = 16, .num_kv_heads = 1, .head_dim = 256},
         }) {
      layers.push_back({config.Resolved(), RandomWeights(config.Resolved(), 7)});
    }
    return layers;
  }

  // Lengths around the kernels' tiles and groups, with and without masks; q_len 1 in different company.
  static std::vector<TestSequence> Sequences(Rng& rng, const AttentionConfig& config) {
    constexpr int64_t kLengths[][2] = {{1, 1},     {1, 70},  {5, 3},    {64, 64},
                                       {130, 130}, {31, 31}, {300, 20}, {1, 520}};
    std::vector<TestSequence> sequences;
    for (const auto& [q_len, kv_len] : kLengths) {
      sequences.push_back(RandomInputs(rng, config, q_len, kv_len));
      sequences.back().visibility.causal = OneIn(rng, 3);
      if (OneIn(rng, 3)) sequences.back().mask = RandomMask(rng, config.num_heads, q_len, kv_len);
    }
    return sequences;
  }

  MultiHeadAttention MustCreate(const TestLayer& layer) const {
    absl::StatusOr<MultiHeadAttention> attention = Create(layer);
    EXPECT_THAT(attention, IsOk());
    return *std::move(attention);
  }

  // Results of one sequence computed alone on one thread: the bits that everything else must reproduce.
  struct Bits {
    std::vector<float> output;
    std::vector<float> weights;
  };
  static Bits Alone(const MultiHeadAttention& attention, const TestSequence& sequence,
                    WeightsSink::Mode mode) {
    ComputeArena arena(1);
    TestBatch batch(attention.config(), {&sequence}, mode);
    EXPECT_THAT(attention.Forward(batch.batch(), arena, *attention.NewWorkspace(arena)), IsOk());
    return {batch.Output(0), batch.Weights(0)};
  }

  // Bitwise, so that NaNs compare equal and -0 does not equal 0.
  static bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  // Each sequence of the batch must have the bits it has in `alone`, of which `order` names the entries.
  static void ExpectSameBits(const TestBatch& batch, const std::vector<size_t>& order,
                             const std::vector<Bits>& alone) {
    EXPECT_TRUE(batch.MarksIntact());
    for (size_t i = 0; i < order.size(); ++i) {
      EXPECT_TRUE(SameBits(batch.Output(i), alone[order[i]].output)) << "output of sequence " << order[i];
      EXPECT_TRUE(SameBits(batch.Weights(i), alone[order[i]].weights)) << "weights of sequence " << order[i];
    }
  }

  static std::vector<const TestSequence*> Pick(const std::vector<TestSequence>& sequences,
                                               const std::vector<size_t>& order) {
    std::vector<const TestSequence*> picked;
    for (size_t i : order) picked.push_back(&sequences[i]);
    return picked;
  }

  // A random selection of the sequences, in random order, some of them twice.
  static std::vector<size_t> RandomOrder(Rng& rng, size_t num_sequences) {
    std::vector<size_t> order(UniformInt(rng, 1, 2 * num_sequences));
    for (size_t& i : order) i = UniformInt(rng, 0, num_sequences - 1);
    return order;
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, KernelIndependenceTest, ::testing::ValuesIn(testing::KernelNames()),
                         testing::KernelTestName);

TEST_P(KernelIndependenceTest, ASequenceHasTheSameBitsInAnyBatchOnAnyThreads) {
  int repetition = 0;
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const MultiHeadAttention attention = MustCreate(layer);
    for (const WeightsSink::Mode mode : {WeightsSink::Mode::kFull, WeightsSink::Mode::kMean}) {
      HEADLIGHT_TRACE_REPETITION(repetition);
      Rng rng = MakeRng(repetition++);
      const std::vector<TestSequence> sequences = Sequences(rng, layer.config);
      std::vector<Bits> alone;
      for (const TestSequence& sequence : sequences) alone.push_back(Alone(attention, sequence, mode));
      for (const int num_threads : {1, 2, 4}) {
        SCOPED_TRACE(::testing::Message() << num_threads << " threads");
        ComputeArena arena(num_threads);
        // One workspace for all, so that each call finds what another one left.
        const std::unique_ptr<Workspace> workspace = attention.NewWorkspace(arena);
        for (int i = 0; i < Repetitions(2); ++i) {
          const std::vector<size_t> order = RandomOrder(rng, sequences.size());
          TestBatch batch(layer.config, Pick(sequences, order), mode);
          ASSERT_THAT(attention.Forward(batch.batch(), arena, *workspace), IsOk());
          ExpectSameBits(batch, order, alone);
        }
      }
    }
  }
}

TEST_P(KernelIndependenceTest, TheOutputHasTheSameBitsWhateverWeightsAreAsked) {
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const MultiHeadAttention attention = MustCreate(layer);
    Rng rng = MakeRng(0);
    for (const TestSequence& sequence : Sequences(rng, layer.config)) {
      SCOPED_TRACE(Describe(sequence));
      const Bits none = Alone(attention, sequence, WeightsSink::Mode::kNone);
      EXPECT_TRUE(SameBits(none.output, Alone(attention, sequence, WeightsSink::Mode::kFull).output));
      EXPECT_TRUE(SameBits(none.output, Alone(attention, sequence, WeightsSink::Mode::kMean).output));
    }
  }
}

TEST_P(KernelIndependenceTest, NonFiniteNumbersStayInTheirOwnSequence) {
  Rng rng = MakeRng(0);
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const MultiHeadAttention attention = MustCreate(layer);
    std::vector<TestSequence> sequences = Sequences(rng, layer.config);
    std::vector<Bits> alone;
    for (const TestSequence& sequence : sequences) {
      alone.push_back(Alone(attention, sequence, WeightsSink::Mode::kFull));
    }
    // A sick one between every two others: NaN in the queries, infinities in keys and values.
    TestSequence sick = RandomInputs(rng, layer.config, 21, 37);
    std::fill(sick.query.begin(), sick.query.end(), std::nanf(""));
    std::fill(sick.key.begin(), sick.key.end(), std::numeric_limits<float>::infinity());
    std::fill(sick.value.begin(), sick.value.end(), -std::numeric_limits<float>::infinity());
    std::vector<const TestSequence*> mixed = {&sick};
    for (const TestSequence& sequence : sequences) {
      mixed.push_back(&sequence);
      mixed.push_back(&sick);
    }

    TestBatch batch(layer.config, mixed, WeightsSink::Mode::kFull);
    ASSERT_THAT(attention.Forward(batch.batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
    for (size_t i = 0; i < sequences.size(); ++i) {
      SCOPED_TRACE(Describe(sequences[i]));
      EXPECT_TRUE(SameBits(batch.Output(2 * i + 1), alone[i].output));
      EXPECT_TRUE(SameBits(batch.Weights(2 * i + 1), alone[i].weights));
    }
  }
}

TEST_P(KernelIndependenceTest, CancelledNeighboursChangeNoBits) {
  Rng rng = MakeRng(0);
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const MultiHeadAttention attention = MustCreate(layer);
    const std::vector<TestSequence> sequences = Sequences(rng, layer.config);
    std::vector<Bits> alone;
    for (const TestSequence& sequence : sequences) {
      alone.push_back(Alone(attention, sequence, WeightsSink::Mode::kFull));
    }
    std::vector<size_t> order(sequences.size());
    std::iota(order.begin(), order.end(), 0);
    CancellationToken cancelled;
    cancelled.Cancel();
    for (size_t parity : {0, 1}) {
      TestBatch batch(layer.config, Pick(sequences, order), WeightsSink::Mode::kFull);
      for (size_t i = parity; i < order.size(); i += 2) batch.options(i).cancelled = &cancelled;
      ASSERT_THAT(attention.Forward(batch.batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
      EXPECT_TRUE(batch.MarksIntact());
      for (size_t i = 1 - parity; i < order.size(); i += 2) {
        EXPECT_TRUE(SameBits(batch.Output(i), alone[i].output)) << Describe(sequences[i]);
        EXPECT_TRUE(SameBits(batch.Weights(i), alone[i].weights)) << Describe(sequences[i]);
      }
    }
  }
}

TEST_P(KernelIndependenceTest, CancellingWhileItComputesChangesNoNeighbour) {
  Rng rng = MakeRng(0);
  const TestLayer layer = Layers()[0];
  const MultiHeadAttention attention = MustCreate(layer);
  const std::vector<TestSequence> sequences = Sequences(rng, layer.config);
  for (int i = 0; i < Repetitions(8); ++i) {
    CancellationToken token;
    std::vector<const TestSequence*> mixed;
    for (int s = 0; s < 8; ++s) mixed.push_back(&sequences[s % 2 == 0 ? 4 : 6]);
    TestBatch batch(layer.config, mixed, WeightsSink::Mode::kNone);
    for (size_t s = 0; s < mixed.size(); s += 2) batch.options(s).cancelled = &token;
    std::thread canceller([&token] { token.Cancel(); });
    EXPECT_THAT(attention.Forward(batch.batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
    canceller.join();
    const Bits alone = Alone(attention, sequences[6], WeightsSink::Mode::kNone);
    for (size_t s = 1; s < mixed.size(); s += 2) EXPECT_TRUE(SameBits(batch.Output(s), alone.output));
  }
}

TEST_P(KernelIndependenceTest, SelfAttentionEqualsCrossAttentionToACopy) {
  const TestLayer layer = Layers()[0];
  const MultiHeadAttention attention = MustCreate(layer);
  Rng rng = MakeRng(0);
  for (const int64_t length : {1, 63, 300}) {
    TestSequence sequence = RandomInputs(rng, layer.config, length, length);
    sequence.key = sequence.value = sequence.query;
    TestBatch self(layer.config, {&sequence}, WeightsSink::Mode::kNone);
    self.batch().key = self.batch().value = self.batch().query;
    ASSERT_THAT(attention.Forward(self.batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
    EXPECT_TRUE(SameBits(self.Output(0), Alone(attention, sequence, WeightsSink::Mode::kNone).output))
        << length;
  }
}

TEST_P(KernelIndependenceTest, CallsAtTheSameTimeDoNotDisturbEachOther) {
  const TestLayer layer = Layers()[1];
  const MultiHeadAttention attention = MustCreate(layer);
  Rng rng = MakeRng(0);
  const std::vector<TestSequence> sequences = Sequences(rng, layer.config);
  std::vector<Bits> alone;
  for (const TestSequence& sequence : sequences) {
    alone.push_back(Alone(attention, sequence, WeightsSink::Mode::kFull));
  }
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      Rng caller_rng = MakeRng(caller + 1);
      const std::unique_ptr<Workspace> workspace = attention.NewWorkspace(arena_);
      for (int i = 0; i < Repetitions(8); ++i) {
        const std::vector<size_t> order = RandomOrder(caller_rng, sequences.size());
        TestBatch batch(layer.config, Pick(sequences, order), WeightsSink::Mode::kFull);
        EXPECT_THAT(attention.Forward(batch.batch(), arena_, *workspace), IsOk());
        ExpectSameBits(batch, order, alone);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

}  // namespace
}  // namespace headlight
