// SPDX-License-Identifier: Apache-2.0
#include "server/models/loaded_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::SmallConfig;
using testing::StatusIs;

ModelConfig SmallModel(Precision precision) {
  ModelConfig config;
  config.block.attention = SmallConfig();
  config.block.attention.precision = precision;
  return config.Resolved();
}

TEST(LoadedModelTest, PackingMeasuresThePrecisionThatIsServed) {
  const ModelConfig config = SmallModel(Precision::kBf16);
  const auto model = PackModel("a", "3", "native", config, RandomModelParameters(config, 1), "");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ((*model)->name, "a");
  EXPECT_EQ((*model)->version, "3");
  EXPECT_EQ((*model)->layout, "native");
  const bool is_f32 = (*model)->model.attention().precision() == Precision::kF32;
  EXPECT_EQ((*model)->precision_error.rms == 0.0, is_f32);
}

TEST(LoadedModelTest, AnErrorNamesTheModel) {
  const ModelConfig config = SmallModel(Precision::kF32);
  EXPECT_THAT(PackModel("a", "1", "native", config, RandomModelParameters(config, 1), "abacus"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::StartsWith("model a: kernel: got 'abacus', wanted one of: ")));
}

}  // namespace
}  // namespace headlight
