// SPDX-License-Identifier: Apache-2.0
//
// A layer that is paused computes the same bits; one that is cancelled ends; and it asks often enough for
// both.
#include "core/attention/interruption.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/attention/layer.h"
#include "tests/core/testing/interrupted_run.h"
#include "tests/core/testing/kernel_fixture.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::RandomInputs;
using testing::Rng;
using testing::RunPaused;
using testing::RunWatched;
using testing::SinkRequest;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestResults;
using testing::TestSequence;

TEST(SequencesOfTest, AreThoseWhoseRowsAreTouched) {
  const std::vector<SequenceOptions> sequences(3);
  const std::vector<int64_t> cu_lens = {0, 5, 6, 10};
  const auto range = [&](int64_t first_row, int64_t rows) {
    const auto found = SequencesOf(sequences, cu_lens, first_row, rows);
    return std::pair(found.data() - sequences.data(), found.size());
  };
  EXPECT_EQ(range(0, 1), std::pair(0L, size_t{1}));
  EXPECT_EQ(range(0, 5), std::pair(0L, size_t{1}));
  EXPECT_EQ(range(0, 6), std::pair(0L, size_t{2}));
  EXPECT_EQ(range(4, 2), std::pair(0L, size_t{2}));
  EXPECT_EQ(range(4, 3), std::pair(0L, size_t{3}));
  EXPECT_EQ(range(5, 1), std::pair(1L, size_t{1}));
  EXPECT_EQ(range(6, 4), std::pair(2L, size_t{1}));
  EXPECT_EQ(range(9, 1), std::pair(2L, size_t{1}));
}

class InterruptionTest : public testing::KernelTest {
 protected:
  static TestLayer Layer(const AttentionConfig& config) {
    return {config.Resolved(), RandomParameters(config.Resolved(), 1)};
  }

  // A long sequence and a short one for each kind of sink.
  struct Problem {
    Problem(Rng& rng, const AttentionConfig& config)
        : long_one(RandomInputs(rng, config, 700, 1100)), short_one(RandomInputs(rng, config, 5, 9)) {
      for (const WeightsSink::Mode mode : testing::kSinkModes) {
        for (const TestSequence* sequence : {&long_one, &short_one}) {
          sequences.push_back(sequence);
          requests.push_back({.mode = mode});
        }
      }
    }
    TestSequence long_one, short_one;
    std::vector<const TestSequence*> sequences;
    std::vector<SinkRequest> requests;
  };
};

INSTANTIATE_TEST_SUITE_P(Kernels, InterruptionTest, ::testing::ValuesIn(testing::KernelParams()),
                         testing::KernelTestName);

TEST_P(InterruptionTest, PausingChangesNoBit) {
  Rng rng = MakeRng(0);
  for (const AttentionConfig& config : {
           AttentionConfig{.embed_dim = 64, .num_heads = 4},
           AttentionConfig{.embed_dim = 96,
           .num_heads = 3,
           .num_kv_heads = 1,
           .add_bias_kv = true,
           .rope = RopeConfig{},
           .window_left = 300},
       }) {
    const TestLayer layer = Layer(config);
    SCOPED_TRACE(testing::Describe(layer.config));
    const absl::StatusOr<AttentionLayer> attention = Create(layer);
    ASSERT_THAT(attention, IsOk());
    const Problem problem(rng, layer.config);
    for (const int threads : {1, 2}) {
      SCOPED_TRACE(::testing::Message() << threads << " threads");
      ComputeArena arena(threads);
      const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena);
      TestBatch calm(layer.config, problem.sequences, problem.requests);
      ASSERT_THAT(attention->Forward(calm.batch(), arena, *workspace), IsOk());
      TestBatch disturbed(layer.config, problem.sequences, problem.requests);
      const int64_t pauses = RunPaused(arena, MakeRng(threads), [&] {
        ASSERT_THAT(attention->Forward(disturbed.batch(), arena, *workspace), IsOk());
      });
      EXPECT_GT(pauses, 0);
      EXPECT_TRUE(disturbed.MarksIntact());
      for (size_t i = 0; i < problem.sequences.size(); ++i) {
        EXPECT_TRUE(SameBits(disturbed.Results(i), calm.Results(i))) << "sequence " << i;
      }
    }
  }
}

// Cancelled at a certain checkpoint, each of the other threads may be at one too; then all have seen it.
TEST_P(InterruptionTest, ACancelledRunEndsAtTheNextCheckpoint) {
  Rng rng = MakeRng(1);
  const TestLayer layer = Layer({.embed_dim = 64, .num_heads = 4});
  const absl::StatusOr<AttentionLayer> attention = Create(layer);
  ASSERT_THAT(attention, IsOk());
  const Problem problem(rng, layer.config);
  for (const int threads : {1, 2}) {
    ComputeArena arena(threads);
    const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena);
    const auto run = [&](int64_t cancel_at) {
      CancellationToken token;
      TestBatch batch(layer.config, problem.sequences, problem.requests);
      for (size_t i = 0; i < problem.sequences.size(); ++i) batch.options(i).cancelled = &token;
      return RunWatched(
          arena,
          [&](int64_t checkpoint) {
            if (checkpoint == cancel_at) token.Cancel();
          },
          [&] { EXPECT_THAT(attention->Forward(batch.batch(), arena, *workspace), IsOk()); });
    };
    const int64_t all = run(-1);
    EXPECT_GT(all, 500);
    for (int i = 0; i < testing::Repetitions(20); ++i) {
      const int64_t cancel_at = testing::UniformInt(rng, 0, all - 1);
      EXPECT_LE(run(cancel_at), cancel_at + threads) << "of " << all << ", " << threads << " threads";
    }
  }
}

TEST_P(InterruptionTest, NeighboursOfACancelledSequenceKeepTheirBits) {
  Rng rng = MakeRng(2);
  const TestLayer layer = Layer({.embed_dim = 64, .num_heads = 4, .num_kv_heads = 2});
  const absl::StatusOr<AttentionLayer> attention = Create(layer);
  ASSERT_THAT(attention, IsOk());
  const Problem problem(rng, layer.config);
  const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena_);
  TestBatch calm(layer.config, problem.sequences, problem.requests);
  int64_t all = RunWatched(
      arena_, [](int64_t) {},
      [&] { ASSERT_THAT(attention->Forward(calm.batch(), arena_, *workspace), IsOk()); });
  for (size_t cancelled = 0; cancelled < problem.sequences.size(); ++cancelled) {
    CancellationToken token;
    TestBatch batch(layer.config, problem.sequences, problem.requests);
    batch.options(cancelled).cancelled = &token;
    const int64_t cancel_at = testing::UniformInt(rng, 0, all / 2);
    RunWatched(
        arena_,
        [&](int64_t checkpoint) {
          if (checkpoint == cancel_at) token.Cancel();
        },
        [&] { ASSERT_THAT(attention->Forward(batch.batch(), arena_, *workspace), IsOk()); });
    EXPECT_TRUE(batch.MarksIntact());
    for (size_t i = 0; i < problem.sequences.size(); ++i) {
      if (i == cancelled) continue;
      EXPECT_TRUE(SameBits(batch.Results(i), calm.Results(i))) << "sequence " << i << " beside " << cancelled;
    }
  }
}

// Between two checkpoints lies at most a product of about 2^24 multiplications, or a tile of keys: on
// average, which is what can be counted, at most twice that.
TEST_P(InterruptionTest, ThereIsACheckpointEveryFewMillionMultiplications) {
  struct Shape {
    int64_t embed_dim, num_heads, q_len, kv_len;
  };
  Rng rng = MakeRng(3);
  for (const auto& [embed_dim, num_heads, q_len, kv_len] :
       {Shape{2048, 8, 256, 256}, Shape{64, 1, 2048, 4096}, Shape{256, 1, 130, 5000},
        Shape{768, 12, 300, 300}}) {
    const TestLayer layer = Layer({.embed_dim = embed_dim, .num_heads = num_heads});
    const absl::StatusOr<AttentionLayer> attention = Create(layer);
    ASSERT_THAT(attention, IsOk());
    const TestSequence sequence = RandomInputs(rng, layer.config, q_len, kv_len);
    TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kNone);
    const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena_);
    const int64_t checkpoints = RunWatched(
        arena_, [](int64_t) {},
        [&] { ASSERT_THAT(attention->Forward(batch.batch(), arena_, *workspace), IsOk()); });
    const int64_t multiplications = 2 * embed_dim * (embed_dim * (q_len + kv_len) + q_len * kv_len);
    EXPECT_LT(multiplications / checkpoints, int64_t{1} << 25)
        << checkpoints << " checkpoints: " << testing::Describe(layer.config);
  }
}

}  // namespace
}  // namespace headlight
