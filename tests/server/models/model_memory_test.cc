// SPDX-License-Identifier: Apache-2.0
#include "server/models/model_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/memory_estimate.h"
#include "server/models/built_in_models.h"
#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::SmallConfig;
using testing::StatusIs;

TEST(ModelMemoryTest, LoadingReservesWhatItTakesAtMostOrSaysWhatThereIs) {
  ModelConfig config;
  config.block.attention = SmallConfig();
  config = config.Resolved();
  const MemoryEstimate estimate = EstimateMemory(config);
  const int64_t peak_bytes = estimate.peak_bytes;
  MemoryBudget budget(2 * peak_bytes - 1);
  const auto lease = ReserveForLoading(estimate, &budget);
  ASSERT_THAT(lease, IsOk());
  EXPECT_EQ(budget.Held(MemoryKind::kModel), peak_bytes);
  EXPECT_THAT(ReserveForLoading(estimate, &budget),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr(absl::StrCat("takes up to ", peak_bytes, " bytes")),
                             HasSubstr(absl::StrCat(peak_bytes - 1, " are free")),
                             HasSubstr(absl::StrCat("other models hold ", peak_bytes, ", requests 0")))));
  EXPECT_THAT(ReserveForLoading(estimate, nullptr), IsOk());
}

TEST(ModelMemoryTest, AModelHoldsItsPackedBytesUntilItsLastUserLetsGo) {
  MemoryBudget budget(int64_t{1} << 30);
  auto model = *MakeBuiltInModel("demo", "", Precision::kF32, &budget);
  const auto user = model;
  EXPECT_EQ(budget.Held(MemoryKind::kModel), model->model.packed_bytes());
  EXPECT_GT(budget.peak_held(), model->model.packed_bytes());
  model.reset();
  EXPECT_GT(budget.held(), 0);
}

TEST(ModelMemoryTest, ABuiltInModelThatDoesNotFitIsRefused) {
  MemoryBudget budget(1000);
  EXPECT_THAT(
      MakeBuiltInModel("demo", "", Precision::kF32, &budget),
      StatusIs(absl::StatusCode::kResourceExhausted,
               AllOf(HasSubstr("model demo: loading it takes"), HasSubstr("of the 1000 bytes for models"))));
  EXPECT_EQ(budget.held(), 0);
}

}  // namespace
}  // namespace headlight
