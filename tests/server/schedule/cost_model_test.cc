// SPDX-License-Identifier: Apache-2.0
#include "server/schedule/cost_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace headlight {
namespace {

// A machine unlike the prior: projections twice as fast, attention half as fast.
constexpr CostPrior kMachine{5e-3, 4e-2, 0.5, 120e3};

double TimeOf(const CostPrior& machine, const WorkCost& cost) {
  return machine.fixed_ns + machine.ns_per_projection_flop * cost.projection_flops +
         machine.ns_per_attention_flop * cost.attention_flops + machine.ns_per_byte * cost.bytes;
}

// A request of an encoder 384 wide, 6 layers.
WorkCost CostOfTokens(double tokens) {
  return {.projection_flops = 21e6 * tokens, .attention_flops = 9.2e3 * tokens * tokens, .bytes = 4 * tokens};
}

class CostModelTest : public ::testing::Test {
 protected:
  double Uniform(double from, double to) { return std::uniform_real_distribution<double>(from, to)(random_); }

  // `num_batches` of one to four requests of from..to tokens, with 10 % of noise.
  void Run(const CostPrior& machine, int num_batches, double from, double to) {
    for (int i = 0; i < num_batches; ++i) {
      WorkCost cost;
      for (int requests = 1 + i % 4; requests > 0; --requests) cost += CostOfTokens(Uniform(from, to));
      model_.Observe(0, cost, TimeOf(machine, cost) * Uniform(0.9, 1.1));
    }
  }

  double MedianError(const CostPrior& machine, double from, double to) {
    std::vector<double> errors;
    for (int i = 0; i < 501; ++i) {
      const WorkCost cost = CostOfTokens(Uniform(from, to));
      errors.push_back(std::abs(model_.PredictNs(0, cost) / TimeOf(machine, cost) - 1));
    }
    std::nth_element(errors.begin(), errors.begin() + 250, errors.end());
    return errors[250];
  }

  std::mt19937_64 random_{7};
  CostModel model_;
};

TEST_F(CostModelTest, KnowsShapesItHasNotSeenAfterTwoHundredRequests) {
  Run(kMachine, 80, 8, 256);  // 200 requests
  EXPECT_LE(MedianError(kMachine, 8, 256), 0.05);
  EXPECT_LE(MedianError(kMachine, 256, 1024), 0.15);
  EXPECT_LE(MedianError(kMachine, 1, 8), 0.15);
}

TEST_F(CostModelTest, LearnsFromAnUnevenMix) {
  for (int i = 0; i < 190; ++i) Run(kMachine, 1, 8, 16);
  Run(kMachine, 10, 400, 512);
  EXPECT_LE(MedianError(kMachine, 8, 512), 0.15);
}

// A batch of one token takes what reading the weights takes, twenty times what its multiplications would: a
// model that was computed with a few tokens and with many before it serves is not misled by any number of
// requests of one.
TEST_F(CostModelTest, TwoSizesAtTheStartTellTokensFromBatches) {
  CostPrior machine = kMachine;
  model_.Introduce(0, {.fixed_ns = 2e6});
  machine.fixed_ns = 20 * machine.ns_per_projection_flop * CostOfTokens(1).projection_flops;
  for (const double tokens : {4.0, 64.0, 4.0, 64.0})
    model_.Observe(0, CostOfTokens(tokens), TimeOf(machine, CostOfTokens(tokens)));
  Run(machine, 500, 1, 1);
  EXPECT_LE(MedianError(machine, 1, 1), 0.05);
  EXPECT_LE(MedianError(machine, 200, 256), 0.25);
}

TEST_F(CostModelTest, ACoefficientThatIsWrongByThreeIsMendedWithinDozensOfBatches) {
  for (const double factor : {3.0, 1 / 3.0}) {
    CostPrior wrong = kMachine;
    wrong.ns_per_projection_flop *= factor;
    model_ = CostModel();
    model_.Introduce(0, wrong);
    Run(kMachine, 24, 8, 256);
    EXPECT_LE(MedianError(kMachine, 8, 256), 0.1) << "wrong by " << factor;
  }
}

TEST_F(CostModelTest, OneDisturbedBatchMovesLittle) {
  Run(kMachine, 100, 8, 256);
  const WorkCost cost = CostOfTokens(128);
  const double before_ns = model_.PredictNs(0, cost);
  model_.Observe(0, cost, 3 * TimeOf(kMachine, cost));
  EXPECT_NEAR(model_.PredictNs(0, cost) / before_ns, 1, 0.03);
}

TEST_F(CostModelTest, FollowsAMachineThatHasBecomeSlower) {
  Run(kMachine, 200, 8, 256);
  CostPrior slower = kMachine;
  slower.ns_per_projection_flop *= 2;
  slower.ns_per_attention_flop *= 2;
  slower.fixed_ns *= 2;
  Run(slower, 60, 8, 256);
  EXPECT_LE(MedianError(slower, 8, 256), 0.15);
}

TEST_F(CostModelTest, PredictionsArePositiveAndGrowWithTheWork) {
  // Noise alone: nothing about the times follows from the sizes.
  for (int i = 0; i < 300; ++i) model_.Observe(0, CostOfTokens(Uniform(8, 256)), Uniform(1e3, 1e8));
  double last_ns = 0;
  for (const double tokens : {0.0, 1.0, 16.0, 128.0, 1024.0}) {
    const double ns = model_.PredictNs(0, CostOfTokens(tokens));
    EXPECT_GE(ns, std::max(1.0, last_ns));
    last_ns = ns;
  }
}

TEST_F(CostModelTest, ClassesDoNotMix) {
  const WorkCost cost = CostOfTokens(100);
  const double unknown_ns = model_.PredictNs(1, cost);
  Run(kMachine, 50, 8, 256);
  EXPECT_EQ(model_.PredictNs(1, cost), unknown_ns);
  EXPECT_EQ(model_.num_observed(0), 50);
}

TEST_F(CostModelTest, TimesThatAreNoneAreIgnored) {
  const WorkCost cost = CostOfTokens(100);
  const double before_ns = model_.PredictNs(0, cost);
  for (const double ns : {0.0, -1.0, std::nan(""), HUGE_VAL}) model_.Observe(0, cost, ns);
  EXPECT_EQ(model_.PredictNs(0, cost), before_ns);
}

}  // namespace
}  // namespace headlight
