// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/calibration.h"

#include <gtest/gtest.h>

#include <random>

namespace headlight {
namespace {

class CalibrationTest : public ::testing::Test {
 protected:
  // Batches of one ticket of 10 ms whose real time is `factor` times that, within +- noise.
  void Run(int num_batches, double factor, double noise) {
    std::uniform_real_distribution<double> scatter(1 - noise, 1 + noise);
    for (int i = 0; i < num_batches; ++i) calibration_.Observe(10e6, 1e14, 10e6 * factor * scatter(random_));
  }

  std::mt19937_64 random_{3};
  Calibration calibration_;
};

TEST_F(CalibrationTest, BeginsNeutralAndDistrustful) {
  EXPECT_EQ(calibration_.factor(), 1);
  EXPECT_GE(calibration_.deviation(), 1);
}

TEST_F(CalibrationTest, FindsFactorAndDeviation) {
  Run(1000, 1.5, 0.6);
  EXPECT_NEAR(calibration_.factor(), 1.5, 0.15);
  // Uniform within +- 0.6: 0.6 / sqrt(3) of the real time, which is what the deviation is relative to after
  // correction.
  EXPECT_NEAR(calibration_.deviation(), 0.35, 0.05);
}

TEST_F(CalibrationTest, FollowsAChangeWithinADozenBatches) {
  Run(300, 1, 0.1);
  Run(12, 2, 0.1);
  EXPECT_NEAR(calibration_.factor(), 2, 0.3);
}

TEST_F(CalibrationTest, OneWildBatchMovesLittle) {
  Run(300, 1, 0.1);
  Run(1, 20, 0);
  EXPECT_NEAR(calibration_.factor(), 1, 0.05);
  EXPECT_LE(calibration_.deviation(), 0.35);
}

TEST_F(CalibrationTest, TimesThatScatterByThemselvesAreNoDrift) {
  Run(3000, 1, 0.6);
  EXPECT_LE(calibration_.drift(), 0.05);
}

// Ten batches of 10 ms are a stretch. Speeds are uniform within +- 0.3 of a stretch's own, 0.3 / sqrt(3)
// from their mean; while the factor follows, up to sqrt(2) times that from each other.
TEST_F(CalibrationTest, FindsWhatTheTimesOfAStretchAreOffTogether) {
  std::uniform_real_distribution<double> speed(0.7, 1.3);
  for (int stretch = 0; stretch < 600; ++stretch) Run(10, speed(random_), 0.1);
  EXPECT_GE(calibration_.drift(), 0.12);
  EXPECT_LE(calibration_.drift(), 0.25);
  Run(6000, 1, 0.1);
  EXPECT_LE(calibration_.drift(), 0.03) << "a calm machine is trusted again";
}

TEST_F(CalibrationTest, NothingPredictedTeachesNothing) {
  calibration_.Observe(0, 0, 1e6);
  EXPECT_EQ(calibration_.factor(), 1);
}

}  // namespace
}  // namespace headlight
