// SPDX-License-Identifier: Apache-2.0
//
// The same of whole models: pausing changes no bit, cancelling ends them soon.
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "core/model/model.h"
#include "tests/core/model/test_model.h"
#include "tests/core/testing/interrupted_run.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::ModelInputs;
using testing::RunPaused;
using testing::RunWatched;
using testing::SameBits;

class ModelInterruptionTest : public ::testing::TestWithParam<testing::NamedConfig> {
 protected:
  ModelInterruptionTest() : config_(GetParam().config.Resolved()) {}

  absl::StatusOr<Model> Create(Precision precision) {
    config_.SetPrecision(precision);
    return Model::Create(config_, RandomModelParameters(config_, 1));
  }

  ModelConfig config_;
};

INSTANTIATE_TEST_SUITE_P(Configs, ModelInterruptionTest, ::testing::ValuesIn(testing::ModelConfigs()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ModelInterruptionTest, PausingChangesNoBit) {
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    const absl::StatusOr<Model> model = Create(precision);
    ASSERT_THAT(model, IsOk());
    for (const int threads : {1, 2, 5}) {  // with 5, columns are split too
      SCOPED_TRACE(::testing::Message() << Name(precision) << ", " << threads << " threads");
      ComputeArena arena(threads);
      const std::unique_ptr<ModelWorkspace> workspace = model->NewWorkspace(arena);
      ModelInputs calm(config_, {1, 300, 20}, {1, 2, 3});
      ASSERT_THAT(model->Forward(calm.Batch(), arena, *workspace), IsOk());
      ModelInputs disturbed(config_, {1, 300, 20}, {1, 2, 3});
      EXPECT_GT(RunPaused(arena, testing::MakeRng(threads),
                          [&] { ASSERT_THAT(model->Forward(disturbed.Batch(), arena, *workspace), IsOk()); }),
                0);
      EXPECT_TRUE(SameBits(disturbed.output, calm.output));
    }
  }
}

TEST_P(ModelInterruptionTest, ACancelledRunEndsAtTheNextCheckpoint) {
  testing::Rng rng = testing::MakeRng(0);
  const absl::StatusOr<Model> model = Create(Precision::kF32);
  ASSERT_THAT(model, IsOk());
  for (const int threads : {1, 2, 5}) {
    ComputeArena arena(threads);
    const std::unique_ptr<ModelWorkspace> workspace = model->NewWorkspace(arena);
    const auto run = [&](int64_t cancel_at) {
      CancellationToken token;
      ModelInputs inputs(config_, {1, 300, 20}, {1, 2, 3});
      for (SequenceOptions& sequence : inputs.sequences) sequence.cancelled = &token;
      return RunWatched(
          arena,
          [&](int64_t checkpoint) {
            if (checkpoint == cancel_at) token.Cancel();
          },
          [&] { EXPECT_THAT(model->Forward(inputs.Batch(), arena, *workspace), IsOk()); });
    };
    const int64_t all = run(-1);
    EXPECT_GT(all, 5 * config_.num_layers);
    for (int i = 0; i < testing::Repetitions(20); ++i) {
      const int64_t cancel_at = testing::UniformInt(rng, 0, all - 1);
      EXPECT_LE(run(cancel_at), cancel_at + threads) << "of " << all << ", " << threads << " threads";
    }
  }
}

TEST_P(ModelInterruptionTest, NeighboursOfACancelledSequenceKeepTheirBits) {
  testing::Rng rng = testing::MakeRng(0);
  const absl::StatusOr<Model> model = Create(Precision::kF32);
  ASSERT_THAT(model, IsOk());
  ComputeArena arena(2);
  const std::unique_ptr<ModelWorkspace> workspace = model->NewWorkspace(arena);
  ModelInputs calm(config_, {1, 300, 20}, {1, 2, 3});
  const int64_t all = RunWatched(
      arena, [](int64_t) {}, [&] { ASSERT_THAT(model->Forward(calm.Batch(), arena, *workspace), IsOk()); });
  for (int64_t cancelled = 0; cancelled < 3; ++cancelled) {
    CancellationToken token;
    ModelInputs inputs(config_, {1, 300, 20}, {1, 2, 3});
    inputs.sequences[cancelled].cancelled = &token;
    const int64_t cancel_at = testing::UniformInt(rng, 0, all / 2);
    RunWatched(
        arena,
        [&](int64_t checkpoint) {
          if (checkpoint == cancel_at) token.Cancel();
        },
        [&] { ASSERT_THAT(model->Forward(inputs.Batch(), arena, *workspace), IsOk()); });
    for (int64_t i = 0; i < 3; ++i) {
      if (i == cancelled) continue;
      EXPECT_TRUE(SameBits(inputs.OutputOf(i), calm.OutputOf(i)))
          << "sequence " << i << " beside " << cancelled;
    }
  }
}

}  // namespace
}  // namespace headlight
