// SPDX-License-Identifier: Apache-2.0
#include "server/models/make_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/checkpoint/folder.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::SmallConfig;
using testing::StatusIs;
using testing::TempFolder;

ModelConfig SmallModel() {
  ModelConfig config;
  config.block.attention = SmallConfig();
  config.num_layers = 2;
  return config.Resolved();
}

TEST(MakeModelTest, AModelThatNobodyWaitsForIsCancelled) {
  const TempFolder folder;
  ASSERT_THAT(SaveModelFolder(folder.path(), SmallModel(), RandomModelParameters(SmallModel(), 1)), IsOk());
  ModelSource source{.name = "a"};
  source.version = {.version = "1", .folder = folder.path()};
  CancellationToken cancelled;
  ASSERT_THAT(MakeModelFromFolder({}, source, cancelled), IsOk());
  cancelled.Cancel();
  EXPECT_THAT(MakeModelFromFolder({}, source, cancelled),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("abandoned")));
}

TEST(MakeModelTest, AWrongLayerGivesAllMemoryBack) {
  const TempFolder folder;
  ModelParameters parameters = RandomModelParameters(SmallModel(), 1);
  parameters.layers[1].attention.wo.back() = std::numeric_limits<float>::infinity();
  ASSERT_THAT(SaveModelFolder(folder.path(), SmallModel(), parameters), IsOk());
  ModelSource source{.name = "a"};
  source.version = {.version = "1", .folder = folder.path()};
  MemoryBudget budget(int64_t{1} << 30);
  EXPECT_THAT(MakeModelFromFolder({.memory = &budget}, source, CancellationToken()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(folder.path()), HasSubstr("layers.1.attention.wo["),
                             HasSubstr("got inf, wanted finite numbers"))));
  EXPECT_EQ(budget.held(), 0);
}

TEST(MakeModelTest, ParametersAreHeldAsTheNameAsksTheConfigAsksOrAllDo) {
  const TempFolder folder;
  ModelConfig config = SmallModel();
  config.SetParametersPrecision(Precision::kBf16);
  ASSERT_THAT(SaveModelFolder(folder.path(), config, RandomModelParameters(config, 1)), IsOk());
  ModelSource source{.name = "a"};
  source.version = {.version = "1", .folder = folder.path()};
  const auto held = [&](const std::string& choice) {
    const FolderModelOptions options = {.parameters_precision = *ParsePrecisionChoice(choice)};
    const auto model = MakeModelFromFolder(options, source, CancellationToken());
    EXPECT_THAT(model, IsOk());
    return (*model)->model.attention().parameters_precision();
  };
  EXPECT_EQ(held("f32"), Precision::kBf16);
  EXPECT_EQ(held("int8"), Precision::kBf16);
  EXPECT_EQ(held("f32,a=int8"), Precision::kInt8);
  EXPECT_EQ(held("a=f32"), Precision::kF32);
}

}  // namespace
}  // namespace headlight
