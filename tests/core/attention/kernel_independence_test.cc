// SPDX-License-Identifier: Apache-2.0
//
// What the bits of a sequence's results must not depend on: its neighbours, the threads, the kind of weights
// asked for, what the workspace held before, other calls at the same time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/attention/layer.h"
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
using testing::kSinkModes;
using testing::OneIn;
using testing::RandomInputs;
using testing::RandomLayer;
using testing::RandomMask;
using testing::RandomSink;
using testing::Repetitions;
using testing::Rng;
using testing::SameBits;
using testing::SinkRequest;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestResults;
using testing::TestSequence;
using testing::UniformInt;

class KernelIndependenceTest : public testing::KernelTest {
 protected:
  // The layers to try: an ordinary one, one of odd widths, one with every semantic, and two with products of
  // 4096 terms, where oneDNN's own matmul gives a single row other bits than the same row among others.
  static std::vector<TestLayer> Layers() {
    std::vector<TestLayer> layers;
    for (const AttentionConfig& config : {
             AttentionConfig{.embed_dim = 128, .num_heads = 2},
             AttentionConfig{.embed_dim = 75, .num_heads = 6, .num_kv_heads = 3, .head_dim = 17, .kdim = 33},
             AttentionConfig{.embed_dim = 40,
             .num_heads = 4,
             .num_kv_heads = 2,
             .head_dim = 24,
             .add_zero_attn = true,
             .add_bias_kv = true,
             .rope = RopeConfig{.rotary_dim = 20},
             .alibi = true,
             .logit_softcap = 8.0,
             .window_left = 100},
             AttentionConfig{.embed_dim = 4096, .num_heads = 1, .head_dim = 8},
             AttentionConfig{.embed_dim = 24, .num_heads = 16, .num_kv_heads = 1, .head_dim = 256},
         }) {
      layers.push_back({config.Resolved(), RandomParameters(config.Resolved(), 7)});
    }
    return layers;
  }

  // Those of them that are quick to compute.
  static std::vector<TestLayer> SmallLayers() {
    std::vector<TestLayer> layers = Layers();
    layers.resize(3);
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

  AttentionLayer MustCreate(const TestLayer& layer) const {
    absl::StatusOr<AttentionLayer> attention = Create(layer);
    EXPECT_THAT(attention, IsOk());
    return *std::move(attention);
  }

  // Results of one sequence computed alone on one thread: the bits that everything else must reproduce.
  static TestResults Alone(const AttentionLayer& attention, const TestSequence& sequence,
                           const SinkRequest& request) {
    ComputeArena arena(1);
    TestBatch batch(attention.config(), {&sequence}, std::vector{request});
    EXPECT_THAT(attention.Forward(batch.batch(), arena, *attention.NewWorkspace(arena)), IsOk());
    return batch.Results(0);
  }
  static TestResults Alone(const AttentionLayer& attention, const TestSequence& sequence,
                           WeightsSink::Mode mode) {
    return Alone(attention, sequence, SinkRequest{mode});
  }

  // Each sequence of the batch must have the bits it has in `alone`, of which `order` names the entries.
  static void ExpectSameBits(const TestBatch& batch, const std::vector<size_t>& order,
                             const std::vector<TestResults>& alone) {
    EXPECT_TRUE(batch.MarksIntact());
    for (size_t i = 0; i < order.size(); ++i) {
      EXPECT_TRUE(SameBits(batch.Results(i), alone[order[i]])) << "sequence " << order[i];
    }
  }

  static std::vector<const TestSequence*> Pick(const std::vector<TestSequence>& sequences,
                                               const std::vector<size_t>& order) {
    std::vector<const TestSequence*> picked;
    for (size_t i : order) picked.push_back(&sequences[i]);
    return picked;
  }
  static std::vector<SinkRequest> Pick(const std::vector<SinkRequest>& requests,
                                       const std::vector<size_t>& order) {
    std::vector<SinkRequest> picked;
    for (size_t i : order) picked.push_back(requests[i]);
    return picked;
  }

  std::unique_ptr<TestBatch> MustRun(const AttentionLayer& attention,
                                     const std::vector<const TestSequence*>& sequences,
                                     const std::vector<SinkRequest>& requests) {
    auto batch = std::make_unique<TestBatch>(attention.config(), sequences, requests);
    EXPECT_THAT(attention.Forward(batch->batch(), arena_, *attention.NewWorkspace(arena_)), IsOk());
    return batch;
  }

  // A random selection of the sequences, in random order, some of them twice.
  static std::vector<size_t> RandomOrder(Rng& rng, size_t num_sequences) {
    std::vector<size_t> order(UniformInt(rng, 1, 2 * num_sequences));
    for (size_t& i : order) i = UniformInt(rng, 0, num_sequences - 1);
    return order;
  }
};

INSTANTIATE_TEST_SUITE_P(Kernels, KernelIndependenceTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

TEST_P(KernelIndependenceTest, AGridOfSinglePairsHasTheBitsOfRows) {
  Rng rng = MakeRng(0);
  for (const TestLayer& layer : Layers()) {
    const AttentionLayer attention = MustCreate(layer);
    const int64_t appended = attention.config().num_appended_keys();
    ComputeArena arena(1);
    for (const TestSequence& sequence : Sequences(rng, attention.config())) {
      SCOPED_TRACE(Describe(sequence));
      const SinkRequest request = {.mode = WeightsSink::Mode::kGrid};
      TestBatch batch(attention.config(), {&sequence}, std::vector{request});
      WeightsSink& sink = batch.options(0).weights;
      sink = sink.Simplified(sequence.q_len, sequence.kv_len + appended);
      EXPECT_EQ(sink.mode == WeightsSink::Mode::kFull,
                sequence.q_len <= kMaxGridCells && sequence.kv_len + appended <= kMaxGridCells);
      EXPECT_THAT(attention.Forward(batch.batch(), arena, *attention.NewWorkspace(arena)), IsOk());
      ExpectSameBits(batch, {0}, {Alone(attention, sequence, request)});
    }
  }
}

TEST_P(KernelIndependenceTest, ASequenceHasTheSameBitsInAnyBatchOnAnyThreads) {
  int repetition = 0;
  for (const TestLayer& layer : Layers()) {
    SCOPED_TRACE(Describe(layer.config));
    const AttentionLayer attention = MustCreate(layer);
    HEADLIGHT_TRACE_REPETITION(repetition);
    Rng rng = MakeRng(repetition++);
    const std::vector<TestSequence> sequences = Sequences(rng, layer.config);
    std::vector<SinkRequest> requests;
    std::vector<TestResults> alone;
    for (const TestSequence& sequence : sequences) {
      requests.push_back(RandomSink(rng, layer.config, sequence));
      alone.push_back(Alone(attention, sequence, requests.back()));
    }
    for (const int num_threads : {1, 2, 4}) {
      SCOPED_TRACE(::testing::Message() << num_threads << " threads");
      ComputeArena arena(num_threads);
      // One workspace for all, so that each call finds what another one left.
      const std::unique_ptr<Workspace> workspace = attention.NewWorkspace(arena);
      for (int i = 0; i < Repetitions(2); ++i) {
        const std::vector<size_t> order = RandomOrder(rng, sequences.size());
        TestBatch batch(layer.config, Pick(sequences, order), Pick(requests, order));
        ASSERT_THAT(attention.Forward(batch.batch(), arena, *workspace), IsOk());
        ExpectSameBits(batch, order, alone);
      }
    }
  }
}

TEST_P(KernelIndependenceTest, TheOutputHasTheSameBitsWhateverIsAsked) {
  for (const TestLayer& layer : SmallLayers()) {
    SCOPED_TRACE(Describe(layer.config));
    const AttentionLayer attention = MustCreate(layer);
    Rng rng = MakeRng(0);
    const std::vector<TestSequence> sequences = Sequences(rng, layer.config);
    std::vector<size_t> order(sequences.size());
    std::iota(order.begin(), order.end(), 0);
    // All sequences in one batch; by the test above that is as good as each alone.
    const auto plain = MustRun(attention, Pick(sequences, order), std::vector<SinkRequest>(order.size()));
    for (size_t shift = 0; shift < 3; ++shift) {
      std::vector<SinkRequest> requests;
      for (size_t i = 0; i < order.size(); ++i) {
        requests.push_back({.mode = kSinkModes[(i + shift) % std::size(kSinkModes)]});
        if (shift == 0) continue;  // all heads and queries
        requests.back().heads = {layer.config.num_heads - 1};
        requests.back().query_end = 2;
      }
      const auto asked = MustRun(attention, Pick(sequences, order), requests);
      for (size_t i = 0; i < order.size(); ++i) {
        EXPECT_TRUE(SameBits(plain->Output(i), asked->Output(i)))
            << Describe(requests[i]) << " of " << Describe(sequences[i]);
      }
    }
  }
}

// What a sink reports of some heads and queries is what one of all reports of them.
TEST_P(KernelIndependenceTest, SomeHeadsAndQueriesGetTheBitsTheyHaveAmongAll) {
  const TestLayer layer = Layers()[1];  // six heads
  const AttentionLayer attention = MustCreate(layer);
  Rng rng = MakeRng(0);
  constexpr int64_t kQueries = 150, kKeys = 90;
  const TestSequence sequence = RandomInputs(rng, layer.config, kQueries, kKeys);
  const std::vector<float> all = Alone(attention, sequence, WeightsSink::Mode::kFull).weights;
  const std::vector<int64_t> heads = {4, 0, 5};
  const TestResults some = Alone(attention, sequence,
                                 SinkRequest{.mode = WeightsSink::Mode::kFull,
                                             .heads = heads,
                                             .query_begin = 60,
                                             .query_end = 131,
                                             .queries_outermost = true});
  std::vector<float> expected;
  for (const int64_t head : heads) {
    const auto rows = all.begin() + head * kQueries * kKeys;
    expected.insert(expected.end(), rows + 60 * kKeys, rows + 131 * kKeys);
  }
  EXPECT_TRUE(SameBits(some.weights, expected));
}

TEST_P(KernelIndependenceTest, NonFiniteNumbersStayInTheirOwnSequence) {
  Rng rng = MakeRng(0);
  for (const TestLayer& layer : SmallLayers()) {
    SCOPED_TRACE(Describe(layer.config));
    const AttentionLayer attention = MustCreate(layer);
    std::vector<TestSequence> sequences = Sequences(rng, layer.config);
    std::vector<TestResults> alone;
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
      EXPECT_TRUE(SameBits(batch.Results(2 * i + 1), alone[i]));
    }
  }
}

TEST_P(KernelIndependenceTest, CancelledNeighboursChangeNoBits) {
  Rng rng = MakeRng(0);
  for (const TestLayer& layer : SmallLayers()) {
    SCOPED_TRACE(Describe(layer.config));
    const AttentionLayer attention = MustCreate(layer);
    const std::vector<TestSequence> sequences = Sequences(rng, layer.config);
    std::vector<TestResults> alone;
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
        EXPECT_TRUE(SameBits(batch.Results(i), alone[i])) << Describe(sequences[i]);
      }
    }
  }
}

TEST_P(KernelIndependenceTest, CancellingWhileItComputesChangesNoNeighbour) {
  Rng rng = MakeRng(0);
  const TestLayer layer = Layers()[0];
  const AttentionLayer attention = MustCreate(layer);
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
    const TestResults alone = Alone(attention, sequences[6], WeightsSink::Mode::kNone);
    for (size_t s = 1; s < mixed.size(); s += 2) EXPECT_TRUE(SameBits(batch.Output(s), alone.output));
  }
}

TEST_P(KernelIndependenceTest, SelfAttentionEqualsCrossAttentionToACopy) {
  const TestLayer layer = Layers()[0];
  const AttentionLayer attention = MustCreate(layer);
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
  const AttentionLayer attention = MustCreate(layer);
  Rng rng = MakeRng(0);
  const std::vector<TestSequence> sequences = Sequences(rng, layer.config);
  std::vector<TestResults> alone;
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
