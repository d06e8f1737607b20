// SPDX-License-Identifier: Apache-2.0
#include "capacity/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace headlight::capacity {
namespace {

using ::testing::HasSubstr;

const ServerProfile kServer{
    .fixed_us = 300, .overhead_us = 100, .scatter = {0.9, 1, 1, 1.1}, .outside_us = {400}};

Traffic PlannedLoad(double rate) {
  return {
      .requests = {{.work_us = 1'600, .tokens = 64}}, .rate = rate, .timeouts_ms = {500}, .count = 20'000};
}

TEST(PlanTest, FindsTheFewestThatMeetTheGoal) {
  const auto plan =
      PlanFleet(kServer, PlannedLoad(3'000), {.percent = 99, .limit_us = 20'000}, Balancing::kRandom, 100);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_TRUE(plan->replicas.has_value());
  EXPECT_EQ(plan->sizes.front().replicas, 5);  // 3,000 requests of 1.7 ms fill as many
  EXPECT_EQ(plan->sizes.back().replicas, *plan->replicas + 1);
  for (const FleetSize& size : plan->sizes) {
    EXPECT_EQ(size.meets_goal, size.replicas >= *plan->replicas) << size.replicas;
    EXPECT_EQ(size.meets_goal, size.load.PercentileUs(99) <= 20'000) << size.replicas;
  }
}

TEST(PlanTest, TheDearestMayBeThoseThatTheGoalLeavesOut) {
  Traffic traffic{.rate = 1'000, .timeouts_ms = {1'000}, .count = 20'000};
  traffic.requests.assign(19, {.work_us = 1'000, .tokens = 32});
  traffic.requests.push_back({.work_us = 200'000, .tokens = 4'096});
  const auto plan =
      PlanFleet(ServerProfile{}, traffic, {.percent = 90, .limit_us = 20'000}, Balancing::kRoundRobin, 100);
  ASSERT_TRUE(plan.ok() && plan->replicas) << plan.status();
  EXPECT_LT(*plan->replicas, 9);  // 0.9 of the load if all requests were alike
  const FleetLoad fewer =
      SimulateFleet(ServerProfile{}, traffic, *plan->replicas - 1, Balancing::kRoundRobin);
  EXPECT_GT(fewer.PercentileUs(90), 20'000);
}

TEST(PlanTest, OnAnIdleServerNobodyMeetsAnybody) {
  const Traffic traffic{
      .requests = {{.work_us = 2'000, .tokens = 64}}, .rate = 10, .timeouts_ms = {500}, .count = 20'000};
  const auto plan =
      PlanFleet(ServerProfile{}, traffic, {.percent = 99.99, .limit_us = 2'500}, Balancing::kRoundRobin, 100);
  EXPECT_TRUE(plan.ok()) << plan.status();
}

TEST(PlanTest, AHarderGoalTakesMore) {
  int before = 0;
  for (const double limit_ms : {50, 15, 8}) {
    const auto plan = PlanFleet(kServer, PlannedLoad(3'000), {.percent = 99, .limit_us = 1e3 * limit_ms},
                                Balancing::kRandom, 100);
    ASSERT_TRUE(plan.ok() && plan->replicas) << limit_ms;
    EXPECT_GE(*plan->replicas, before) << limit_ms;
    before = *plan->replicas;
  }
}

TEST(PlanTest, ALittleLoadTakesOne) {
  const auto plan =
      PlanFleet(kServer, PlannedLoad(10), {.percent = 99, .limit_us = 20'000}, Balancing::kRandom, 100);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->replicas, 1);
  EXPECT_EQ(plan->sizes.size(), 2);
}

TEST(PlanTest, SaysThatNoNumberWouldDo) {
  const auto plan =
      PlanFleet(kServer, PlannedLoad(10), {.percent = 99, .limit_us = 2'000}, Balancing::kRandom, 100);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("on an idle server it takes 2.6"));
}

TEST(PlanTest, GivesUpAtTheLargestThatMayBeTried) {
  const auto plan =
      PlanFleet(kServer, PlannedLoad(3'000), {.percent = 99, .limit_us = 20'000}, Balancing::kRandom, 5);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->replicas.has_value());
  EXPECT_EQ(plan->sizes.size(), 2);  // one more, that could have confirmed it
}

TEST(PlanTest, TheLargestThatMayBeTriedMayDo) {
  const Goal goal = {.percent = 99, .limit_us = 20'000};
  const auto free = PlanFleet(kServer, PlannedLoad(3'000), goal, Balancing::kRandom, 100);
  ASSERT_TRUE(free.ok() && free->replicas);
  const auto bounded = PlanFleet(kServer, PlannedLoad(3'000), goal, Balancing::kRandom, *free->replicas);
  ASSERT_TRUE(bounded.ok());
  EXPECT_EQ(bounded->replicas, free->replicas);
}

TEST(PlanTest, SaysThatTimeoutsAreTooShort) {
  Traffic traffic = PlannedLoad(10);
  traffic.timeouts_ms = {1};
  const auto plan = PlanFleet(kServer, traffic, {.percent = 99, .limit_us = 20'000}, Balancing::kRandom, 100);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("their timeouts are shorter than they take"));
}

TEST(PlanTest, OverheadIsWhatComputingDoesNotExplain) {
  ServerProfile server = kServer;
  const Traffic traffic{.requests = PlannedLoad(1).requests, .count = 5'000};
  server.overhead_us = 700;
  const double measured_rate = SimulateClosedLoop(server, traffic, 12);
  EXPECT_NEAR(FitOverheadUs(kServer, traffic, 12, measured_rate), 700, 35);
  EXPECT_EQ(FitOverheadUs(kServer, traffic, 12, 1e4), 0);  // faster than it can be
}

}  // namespace
}  // namespace headlight::capacity
