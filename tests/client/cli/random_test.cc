// SPDX-License-Identifier: Apache-2.0
#include "client/cli/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace headlight::client {
namespace {

using ::testing::ElementsAre;

TEST(RandomNormalTest, IsTheSameOnEveryMachine) {
  RandomNormal random(0);
  // Computed apart, from the definition in the header.
  EXPECT_THAT(random.NextTensor({2, 2}).values, ElementsAre(0x1.91c83a0000000p-2f, -0x1.5f90d80000000p-1f,
                                                            0x1.1c1e8e0000000p-1f, -0x1.28ddee0000000p+0f));
}

TEST(RandomNormalTest, SeedsDiffer) {
  EXPECT_NE(RandomNormal(1).NextTensor({8}).values, RandomNormal(2).NextTensor({8}).values);
  EXPECT_EQ(RandomNormal(1).NextTensor({8}).values, RandomNormal(1).NextTensor({8}).values);
}

TEST(RandomNormalTest, HasMeanZeroAndVarianceOne) {
  constexpr int kCount = 100'000;
  RandomNormal random(3);
  double sum = 0, sum_of_squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double value = random.Next();
    ASSERT_LE(std::abs(value), 6);
    sum += value;
    sum_of_squares += value * value;
  }
  EXPECT_NEAR(sum / kCount, 0, 0.015);            // over four standard errors of 0.0032
  EXPECT_NEAR(sum_of_squares / kCount, 1, 0.02);  // the same, of 0.0044
}

TEST(RandomIdsTest, AreTheSameOnEveryMachine) {
  const Ids ids = RandomIds(0, {2, 2}, 1000);
  EXPECT_THAT(ids.shape, ElementsAre(2, 2));
  // Computed apart: the upper halves of std::mt19937_64's first outputs, scaled to 1000.
  EXPECT_THAT(std::get<std::vector<int32_t>>(ids.values), ElementsAre(159, 992, 39, 597));
}

TEST(RandomIdsTest, FillTheLargestVocabulary) {
  const Ids ids = RandomIds(1, {1000}, kMaxVocabSize);
  for (const int32_t id : std::get<std::vector<int32_t>>(ids.values)) ASSERT_GE(id, 0);
}

}  // namespace
}  // namespace headlight::client
