// SPDX-License-Identifier: Apache-2.0
//
// That the comparison with the reference lets a kernel's results through and notices what is wrong with them.
#include "tests/core/testing/expect_near.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "core/attention/layer.h"
#include "core/runtime/compute_arena.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight::testing {
namespace {

class ExpectNearTest : public ::testing::Test {
 protected:
  // How many failures ExpectNearReference reports of results that `spoil` has changed. The sequence has 6
  // queries and 20 keys in 2 heads, and attends causally.
  int Failures(WeightsSink::Mode mode, const std::function<void(SequenceOptions&, TestBatch&)>& spoil) {
    const AttentionConfig config = AttentionConfig{.embed_dim = 32, .num_heads = 2}.Resolved();
    const TestLayer layer = {config, RandomParameters(config, 1)};
    Rng rng = MakeRng(0);
    TestSequence sequence = RandomInputs(rng, config, 6, 20, 3.0f);
    sequence.visibility.causal = true;
    TestBatch batch(config, {&sequence}, mode);
    const auto attention = AttentionLayer::Create(config, layer.weights);
    EXPECT_THAT(attention, IsOk());
    ComputeArena arena(1);
    EXPECT_THAT(attention->Forward(batch.batch(), arena, *attention->NewWorkspace(arena)), IsOk());
    spoil(batch.options(0), batch);

    ::testing::TestPartResultArray failures;
    {
      const ::testing::ScopedFakeTestPartResultReporter reporter(&failures);
      ExpectNearReference(layer, batch);
    }
    return failures.size();
  }
};

TEST_F(ExpectNearTest, LetsResultsThrough) {
  for (const WeightsSink::Mode mode : kSinkModes) EXPECT_EQ(Failures(mode, [](auto&, auto&) {}), 0);
}

TEST_F(ExpectNearTest, NoticesAWrongOutput) {
  EXPECT_GT(Failures(WeightsSink::Mode::kNone,
                     [](auto&, TestBatch& batch) {
                       float* y = batch.batch().output.Row(3);
                       std::swap(y[0], y[1]);
                     }),
            0);
}

TEST_F(ExpectNearTest, NoticesWrongWeights) {
  for (const WeightsSink::Mode mode : {WeightsSink::Mode::kFull, WeightsSink::Mode::kMean}) {
    EXPECT_GT(Failures(mode, [](auto& options,
                                auto&) { std::swap(options.weights.data[0], options.weights.data[1]); }),
              0);
    EXPECT_GT(Failures(mode, [](auto& options, auto&) { options.weights.data[19] = 0.001f; }), 0)
        << "a key not seen";
  }
}

TEST_F(ExpectNearTest, NoticesWhatIsWrittenElsewhere) {
  EXPECT_GT(Failures(WeightsSink::Mode::kFull, [](auto& options, auto&) { options.weights.data[20] = 0.0f; }),
            0);
  EXPECT_GT(Failures(WeightsSink::Mode::kFull, [](auto& options, auto&) { options.weights.keys[0] = 0; }), 0);
  EXPECT_GT(Failures(WeightsSink::Mode::kSummary,
                     [](auto& options, auto&) { options.weights.data[kNumHeadStatistics] = 0.0f; }),
            0);
}

TEST_F(ExpectNearTest, NoticesWrongTopKeys) {
  const auto failures = [&](const std::function<void(float*, int32_t*)>& spoil) {
    return Failures(WeightsSink::Mode::kTopK,
                    [&](auto& options, auto&) { spoil(options.weights.data, options.weights.keys); });
  };
  EXPECT_GT(failures([](float*, int32_t* keys) { std::swap(keys[0], keys[1]); }), 0)
      << "keys without their weights";
  EXPECT_GT(failures([](float* weights, int32_t* keys) {
              std::swap(keys[0], keys[1]);
              std::swap(weights[0], weights[1]);
            }),
            0)
      << "not the best first";
  EXPECT_GT(failures([](float* weights, int32_t* keys) {
              keys[1] = keys[0];
              weights[1] = weights[0];
            }),
            0)
      << "a key twice";
  EXPECT_GT(failures([](float* weights, int32_t* keys) {
              keys[4] = -1;
              weights[4] = 0.0f;
            }),
            0)
      << "an end too soon";
  EXPECT_GT(failures([](float*, int32_t* keys) { keys[0] = 20; }), 0) << "no key of the sequence";
  EXPECT_GT(failures([](float* weights, int32_t* keys) {
              std::copy(keys + 1, keys + 5, keys);
              std::copy(weights + 1, weights + 5, weights);
            }),
            0)
      << "the best one missing";
}

TEST_F(ExpectNearTest, NoticesWrongStatistics) {
  for (int statistic = 0; statistic < kNumHeadStatistics; ++statistic) {
    EXPECT_EQ(Failures(WeightsSink::Mode::kSummary,
                       [&](auto& options, auto&) {
                         options.weights.data[statistic] = 1.01f * options.weights.data[statistic] + 1e-4f;
                       }),
              1)
        << "statistic " << statistic;
  }
  EXPECT_EQ(Failures(WeightsSink::Mode::kSummary,
                     [](auto& options, auto&) { options.weights.received_mass[3] *= 1.01f; }),
            1);
}

}  // namespace
}  // namespace headlight::testing
