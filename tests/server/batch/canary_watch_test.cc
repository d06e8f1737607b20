// SPDX-License-Identifier: Apache-2.0
#include "server/batch/canary_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "server/batch/batch_lane.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/test_engine.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;

// Answers the same number everywhere, or an error.
class NumberExecutor final : public BatchExecutor {
 public:
  absl::StatusOr<std::vector<BatchResult>> Execute(std::span<const BatchInput* const> inputs,
                                                   Lease&) override {
    if (short_of_memory) return absl::ResourceExhaustedError("no memory");
    std::vector<BatchResult> results;
    for (const BatchInput* input : inputs) {
      const auto& attention = input->model->model.config().block.attention;
      auto outputs = std::make_shared<std::vector<float>>(input->num_outputs(attention.embed_dim), number);
      results.emplace_back().output = {outputs, outputs->data()};
    }
    return results;
  }

  std::atomic<float> number{1};
  std::atomic<bool> short_of_memory{false};
};

class CanaryWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto model = testing::MakeTestModel("m").loaded;
    ASSERT_THAT(watch_.Begin(model), IsOk());
    ASSERT_THAT(registry_.Add(model), IsOk());
  }

  SteadyClock clock_;
  ModelRegistry registry_;
  NumberExecutor executor_;
  ComputeArena arena_{1};
  BatchLane lane_{executor_, arena_};
  Scheduler scheduler_{{}, lane_, /*long_runner=*/nullptr, clock_};
  std::vector<std::pair<std::string, absl::Status>> verdicts_;
  CanaryWatch watch_{registry_, scheduler_, clock_,
                     [this](const std::string& model, const absl::Status& verdict) {
                       verdicts_.emplace_back(model, verdict);
                     }};
};

TEST_F(CanaryWatchTest, TheSameBitsAreNothingToTellOf) {
  for (int i = 0; i < 3; ++i) watch_.Look();
  EXPECT_THAT(verdicts_, IsEmpty());
}

TEST_F(CanaryWatchTest, OtherBitsAreToldOnceAndSoIsTheirEnd) {
  executor_.number = std::nextafter(1.0F, 2.0F);
  watch_.Look();
  watch_.Look();
  ASSERT_EQ(verdicts_.size(), 1u);
  EXPECT_EQ(verdicts_[0].first, "m");
  EXPECT_THAT(std::string(verdicts_[0].second.message()), HasSubstr("other bits"));
  executor_.number = 1;
  watch_.Look();
  watch_.Look();
  ASSERT_EQ(verdicts_.size(), 2u);
  EXPECT_THAT(verdicts_[1].second, IsOk());
}

TEST_F(CanaryWatchTest, WhatIsNotFiniteIsWrong) {
  executor_.number = std::numeric_limits<float>::quiet_NaN();
  watch_.Look();
  ASSERT_EQ(verdicts_.size(), 1u);
  EXPECT_THAT(std::string(verdicts_[0].second.message()), HasSubstr("not finite"));
}

TEST_F(CanaryWatchTest, WhatCannotBeComputedNowIsNoVerdict) {
  executor_.short_of_memory = true;
  watch_.Look();
  EXPECT_THAT(verdicts_, IsEmpty());
}

TEST_F(CanaryWatchTest, ANewVersionHasBitsOfItsOwn) {
  executor_.number = 2;
  const auto next = testing::MakeTestModel("m", testing::SmallConfig(), "2").loaded;
  ASSERT_THAT(watch_.Begin(next), IsOk());
  registry_.Replace(next);
  watch_.Look();
  EXPECT_THAT(verdicts_, IsEmpty());
}

TEST(CanaryBitsTest, RealModelsComputeTheSameBitsAgain) {
  SteadyClock clock;
  testing::TestEngine engine{{}, /*threads=*/2};
  ModelRegistry registry;
  std::vector<std::string> wrong;
  CanaryWatch watch(registry, engine.scheduler(), clock,
                    [&](const std::string& model, const absl::Status&) { wrong.push_back(model); });
  for (const auto& model :
       {testing::MakeTestModel("self").loaded, testing::MakeTestModel("cross", testing::CrossConfig()).loaded,
        testing::LoadTestModel("ids", testing::EncoderConfig())}) {
    ASSERT_THAT(watch.Begin(model), IsOk());
    ASSERT_THAT(registry.Add(model), IsOk());
  }
  for (int i = 0; i < 5; ++i) watch.Look();
  EXPECT_THAT(wrong, IsEmpty());
}

}  // namespace
}  // namespace headlight
