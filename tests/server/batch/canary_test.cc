// SPDX-License-Identifier: Apache-2.0
#include "server/batch/canary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/model/parameters.h"
#include "tests/server/attend_fixtures.h"
#include "tests/server/test_engine.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

class CanaryTest : public ::testing::Test {
 protected:
  SteadyClock clock_;
  testing::TestEngine engine_{{}, /*threads=*/2};
};

TEST_F(CanaryTest, ModelsOfEveryKindOfInputPass) {
  for (const auto& model :
       {testing::MakeTestModel("self").loaded, testing::MakeTestModel("cross", testing::CrossConfig()).loaded,
        testing::LoadTestModel("ids", testing::EncoderConfig())}) {
    EXPECT_THAT(ComputeCanary(model, engine_.scheduler(), clock_), IsOk()) << model->name;
  }
}

TEST_F(CanaryTest, AFullQueueDoesNotKeepAModelFromBeingTried) {
  testing::TestEngine full({.queue_max_requests = 0}, /*threads=*/2);
  EXPECT_THAT(ComputeCanary(testing::MakeTestModel("m").loaded, full.scheduler(), clock_), IsOk());
}

TEST_F(CanaryTest, OutputsThatAreNotFiniteAreInternal) {
  ModelConfig config;
  config.block.attention = testing::SmallConfig();
  config = config.Resolved();
  ModelParameters weights = RandomModelParameters(config, 1);
  weights.layers[0].attention.bo.assign(static_cast<size_t>(config.block.attention.embed_dim),
                                        std::numeric_limits<float>::infinity());
  const auto model = PackModel("broken", "1", "native", config, weights, /*kernel_name=*/"");
  ASSERT_THAT(model, IsOk());
  EXPECT_THAT(ComputeCanary(*model, engine_.scheduler(), clock_),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("not finite")));
}

TEST_F(CanaryTest, ADrainingServerDoesNotWaitForIt) {
  engine_.scheduler().StopAccepting();
  EXPECT_THAT(ComputeCanary(testing::MakeTestModel("m").loaded, engine_.scheduler(), clock_),
              StatusIs(absl::StatusCode::kUnavailable, ::testing::_));
}

}  // namespace
}  // namespace headlight
