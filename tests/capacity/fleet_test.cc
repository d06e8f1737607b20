// SPDX-License-Identifier: Apache-2.0
//
// Where queueing theory has a closed form, the simulation agrees with it; elsewhere with reason.
#include "capacity/fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace headlight::capacity {
namespace {

constexpr double kServiceUs = 2'000;
constexpr double kCapacity = 1e6 / kServiceUs;  // requests a second

// Each request is a batch of its own and takes `scatter` times 2 ms; nobody is refused or given up.
ServerProfile OneByOne(std::vector<double> scatter = {1}) {
  ServerProfile server;
  server.scatter = std::move(scatter);
  server.options.max_batch_tokens = 1;
  server.options.queue_max_requests = 1'000'000;
  return server;
}

Traffic Load(double rate) {
  return {.requests = {{.work_us = kServiceUs, .tokens = 1}}, .rate = rate, .count = 300'000, .seed = 7};
}

double MeanWaitUs(const FleetLoad& load) {
  const double sum = std::accumulate(load.latency_us.begin(), load.latency_us.end(), 0.0);
  return sum / static_cast<double>(load.answered) - kServiceUs;
}

TEST(FleetTest, WaitsAsLongAsAQueueOfEqualJobsDoes) {  // M/D/1
  for (const double rho : {0.3, 0.5, 0.8}) {
    const FleetLoad load = SimulateFleet(OneByOne(), Load(rho * kCapacity), 1, Balancing::kRandom);
    const double expected_us = rho * kServiceUs / (2 * (1 - rho));
    EXPECT_NEAR(MeanWaitUs(load), expected_us, 0.05 * expected_us) << "at " << rho;
    EXPECT_NEAR(load.utilization, rho, 0.01);
    // Who finds the server idle does not wait.
    const auto at_once = std::count_if(load.latency_us.begin(), load.latency_us.end(),
                                       [](double us) { return us < kServiceUs + 1; });
    EXPECT_NEAR(static_cast<double>(at_once) / static_cast<double>(load.answered), 1 - rho, 0.01);
    EXPECT_EQ(load.refused + load.late, 0);
  }
}

TEST(FleetTest, WaitsLongerWhereTimesScatter) {  // Pollaczek and Khinchine: M/G/1
  const double rho = 0.5;
  const FleetLoad load = SimulateFleet(OneByOne({0.5, 1.5}), Load(rho * kCapacity), 1, Balancing::kRandom);
  const double expected_us = 1.25 * rho * kServiceUs / (2 * (1 - rho));
  EXPECT_NEAR(MeanWaitUs(load), expected_us, 0.06 * expected_us);
}

TEST(FleetTest, RandomDealingMakesEachServerAQueueOfItsOwn) {
  const double rho = 0.7;
  const FleetLoad load = SimulateFleet(OneByOne(), Load(4 * rho * kCapacity), 4, Balancing::kRandom);
  const double expected_us = rho * kServiceUs / (2 * (1 - rho));
  EXPECT_NEAR(MeanWaitUs(load), expected_us, 0.06 * expected_us);
  EXPECT_NEAR(load.utilization, rho, 0.01);
}

TEST(FleetTest, ABetterDealerLetsNobodyWaitLonger) {
  const Traffic traffic = Load(4 * 0.7 * kCapacity);
  // Where all take the same time, the one whose turn it is is the least loaded.
  const ServerProfile server = OneByOne({0.5, 1.5});
  const double random_us = MeanWaitUs(SimulateFleet(server, traffic, 4, Balancing::kRandom));
  const double in_turn_us = MeanWaitUs(SimulateFleet(server, traffic, 4, Balancing::kRoundRobin));
  const double least_us = MeanWaitUs(SimulateFleet(server, traffic, 4, Balancing::kLeastLoaded));
  EXPECT_LT(in_turn_us, 0.8 * random_us);
  EXPECT_LT(least_us, in_turn_us);
}

TEST(FleetTest, BeyondTheCapacityTheExcessIsRefused) {
  Traffic traffic = Load(2 * kCapacity);
  traffic.timeouts_ms = {50};
  traffic.count = 100'000;
  const FleetLoad load = SimulateFleet(OneByOne(), traffic, 1, Balancing::kRandom);
  EXPECT_GT(load.utilization, 0.97);
  EXPECT_GT(load.answered_per_s(), 0.95 * kCapacity);
  EXPECT_NEAR(static_cast<double>(load.refused) / static_cast<double>(load.offered), 0.5, 0.03);
  EXPECT_LT(load.late, load.offered / 100);
  EXPECT_EQ(load.offered, load.answered + load.refused + load.late);
  EXPECT_LE(load.latency_us.back(), 50'000);
  EXPECT_TRUE(std::isinf(load.PercentileUs(99)));  // refused requests are requests
  EXPECT_FALSE(std::isinf(load.PercentileUs(45)));
}

TEST(FleetTest, MoreServersAreNeverWorse) {
  ServerProfile server{.fixed_us = 500, .scatter = {0.8, 1, 1, 1, 1.2}, .outside_us = {300, 400, 900}};
  Traffic traffic{.requests = {{400, 16}, {2'500, 128}, {9'000, 512}}, .rate = 800, .timeouts_ms = {100}};
  for (const Balancing balancing : {Balancing::kRandom, Balancing::kRoundRobin, Balancing::kLeastLoaded}) {
    double before_us = std::numeric_limits<double>::infinity();
    int64_t answered_before = 0;
    for (int replicas = 2; replicas <= 9; ++replicas) {
      const FleetLoad load = SimulateFleet(server, traffic, replicas, balancing);
      EXPECT_LE(load.PercentileUs(99), 1.05 * before_us) << replicas;
      EXPECT_GE(load.answered, 0.999 * static_cast<double>(answered_before)) << replicas;
      before_us = load.PercentileUs(99);
      answered_before = load.answered;
    }
  }
}

TEST(FleetTest, ASeedIsARun) {
  Traffic traffic = Load(0.6 * kCapacity);
  traffic.count = 5'000;
  const FleetLoad once = SimulateFleet(OneByOne({0.9, 1.1}), traffic, 2, Balancing::kRandom);
  const FleetLoad again = SimulateFleet(OneByOne({0.9, 1.1}), traffic, 2, Balancing::kRandom);
  EXPECT_EQ(once.latency_us, again.latency_us);
  ++traffic.seed;
  const FleetLoad other = SimulateFleet(OneByOne({0.9, 1.1}), traffic, 2, Balancing::kRandom);
  EXPECT_NE(once.latency_us, other.latency_us);
}

TEST(FleetTest, BatchesShareWhatEachOfThemTakes) {
  // Alone a request takes 1.1 ms; where there are always others, a batch of 5 ms holds 40 of them.
  const ServerProfile server{.fixed_us = 1'000};
  const Traffic traffic{.requests = {{.work_us = 100, .tokens = 1}}, .count = 20'000};
  EXPECT_NEAR(SimulateClosedLoop(server, traffic, 1), 1e6 / 1'100, 5);
  EXPECT_NEAR(SimulateClosedLoop(server, traffic, 200), 40e6 / 5'000, 0.1 * 8'000);
}

TEST(FleetTest, AClosedLoopWaitsForWhatIsOutsideTheServer) {
  ServerProfile server = OneByOne();
  Traffic traffic = Load(0);
  traffic.count = 5'000;
  server.outside_us = {3'000};
  EXPECT_NEAR(SimulateClosedLoop(server, traffic, 1), 1e6 / (kServiceUs + 3'000), 1);
  EXPECT_NEAR(SimulateClosedLoop(server, traffic, 8), kCapacity, 1);
  server.overhead_us = 500;
  EXPECT_NEAR(SimulateClosedLoop(server, traffic, 8), 1e6 / (kServiceUs + 500), 1);
  server.options.queue_max_requests = 2;  // who is refused is no answer
  EXPECT_NEAR(SimulateClosedLoop(server, traffic, 8), 1e6 / (kServiceUs + 500), 20);
}

TEST(FleetTest, ShortRequestsDoNotWaitForLongOnes) {
  // A tenth of a second, five times a second: long requests are a load of 0.55 and short ones of 0.1.
  const ServerProfile server;
  Traffic traffic{.rate = 110, .count = 20'000};
  traffic.requests.assign(21, {.work_us = 1'000, .tokens = 1});
  traffic.requests.push_back({.work_us = 110'000, .tokens = 1});
  const FleetLoad load = SimulateFleet(server, traffic, 1, Balancing::kRandom);
  EXPECT_LT(load.PercentileUs(50), 3'000);
  EXPECT_GT(load.PercentileUs(97), 110'000);
}

}  // namespace
}  // namespace headlight::capacity
