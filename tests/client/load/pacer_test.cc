// SPDX-License-Identifier: Apache-2.0
//
// Plays runs of an open loop against servers with scripted delays, by a clock of its own: what is sent when,
// and what the percentiles make of it.
#include "client/load/pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <queue>
#include <vector>

#include "client/load/latency_recorder.h"

namespace headlight::client {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

// Serves one request after the other, each in `service`, but nothing during the first `stall` of each
// `period`.
struct StallingServer {
  nanoseconds service = 100us;
  nanoseconds period = 10s;
  nanoseconds stall = 1s;
  LoadClock::time_point free_at{};

  // When a request that comes at `now` is answered.
  LoadClock::time_point Answer(LoadClock::time_point now) {
    LoadClock::time_point begin = std::max(now, free_at);
    const nanoseconds phase = begin.time_since_epoch() % period;
    if (phase < stall) begin += stall - phase;
    return free_at = begin + service;
  }
};

struct Simulation {
  ArrivalPlan plan;
  RequestMix mix;
  int max_in_flight = 1 << 20;

  LoadResult Run(StallingServer server) const {
    Pacer pacer(plan, mix, 0, 1);
    LatencyRecorder recorder(plan.window, 1s);
    struct InFlight {
      LoadClock::time_point answered;
      SentRequest request;
      bool operator>(const InFlight& other) const { return answered > other.answered; }
    };
    std::priority_queue<InFlight, std::vector<InFlight>, std::greater<InFlight>> in_flight;
    LoadClock::time_point now = plan.start;
    for (;;) {
      while (!in_flight.empty() && in_flight.top().answered <= now) {
        recorder.Replied(in_flight.top().request, in_flight.top().answered, {});
        in_flight.pop();
      }
      const Pacer::Step step = pacer.Next(now, static_cast<int>(in_flight.size()) < max_in_flight);
      switch (step.action) {
        case Pacer::Action::kSend: {
          const SentRequest request{.intended = step.at, .sent = now, .timeout = step.choice.timeout};
          recorder.Sent(request);
          in_flight.push({server.Answer(now), request});
          break;
        }
        case Pacer::Action::kDrop:
          recorder.Unsent(step.at);
          break;
        case Pacer::Action::kWait:
          now = in_flight.empty() ? step.at : std::min(step.at, in_flight.top().answered);
          break;
        case Pacer::Action::kEnd:
          for (; !in_flight.empty(); in_flight.pop()) {
            recorder.Replied(in_flight.top().request, in_flight.top().answered, {});
          }
          return recorder.result();
      }
    }
  }
};

Simulation HundredASecond(nanoseconds duration) {
  Simulation simulation;
  simulation.plan = {.arrivals = Arrivals::kConstant, .rate = 100, .start = LoadClock::time_point(1h)};
  simulation.plan.window = {simulation.plan.start, simulation.plan.start + duration};
  simulation.mix.timeouts = {20s};
  return simulation;
}

double MsOf(nanoseconds duration) { return static_cast<double>(duration.count()) / 1e6; }

// A stall of S every P delays those that come in it by what is left of it: the share that waits longer than x
// is (S - x) / P. With S = 1 s and P = 10 s: a tenth is delayed at all; p99 solves (S - x) / P = 1 %, 0.9 s;
// p95 is 0.5 s. After the stall the 100 that wait are served within 10 ms, which x may be too much by, as may
// the histogram's 0.8 %; an arrival is 10 ms, so x may be too little by that.
TEST(PacerTest, AStallShowsInThePercentilesAsTheorySays) {
  const LoadResult result = HundredASecond(100s).Run({});
  EXPECT_EQ(result.replies(), 10'000);
  EXPECT_EQ(result.late.max(), 0ns);
  EXPECT_NEAR(MsOf(result.intended.Percentile(99)), 900, 10 + 10 + 8);
  EXPECT_NEAR(MsOf(result.intended.Percentile(95)), 500, 10 + 10 + 4);
  EXPECT_LT(MsOf(result.intended.Percentile(89)), 1);
  const int64_t delayed = result.replies() - result.intended.CountUpTo(1ms);
  EXPECT_NEAR(static_cast<double>(delayed), 1000, 20);  // 100 of each stall, give or take those at its ends
}

// A tester that waits for its reply before it sends the next one meets a stall with one request and is silent
// for the rest of it: coordinated omission. Latency since the intended time shows the stall all the same.
TEST(PacerTest, AStallHidesFromSendTimesWhenTheTesterWaitsButNotFromIntendedOnes) {
  Simulation simulation = HundredASecond(100s);
  simulation.max_in_flight = 1;
  const LoadResult result = simulation.Run({});
  EXPECT_EQ(result.replies(), 10'000);
  EXPECT_NEAR(MsOf(result.intended.Percentile(99)), 900, 10 + 10 + 8);
  // Ten of 10,000 saw a stall since they were sent: p99 does not, the maximum does.
  EXPECT_LT(MsOf(result.actual.Percentile(99)), 1);
  EXPECT_NEAR(MsOf(result.actual.max()), 1000, 20);
  EXPECT_NEAR(MsOf(result.late.Percentile(99)), 900, 28);
}

TEST(PacerTest, WhatFindsNoRoomUntilItsDeadlineIsCountedAsUnsent) {
  Simulation simulation = HundredASecond(100s);
  simulation.max_in_flight = 1;
  simulation.mix.timeouts = {500ms};
  const LoadResult result = simulation.Run({});
  // Of the hundred in each stall the first is in flight, the last fifty are late, the others over their time.
  EXPECT_EQ(result.replies() + result.unsent, 10'000);
  EXPECT_NEAR(static_cast<double>(result.unsent), 10 * 49, 10 * 2);
  EXPECT_LE(MsOf(result.late.max()), 500);
  EXPECT_EQ(result.good_in_window, result.replies() - 10);  // those in flight in a stall took longer
}

TEST(PacerTest, WarmupIsSentButNotMeasured) {
  Simulation simulation = HundredASecond(10s);
  simulation.plan.window.begin += 4s;
  const LoadResult result = simulation.Run({.stall = 0ns});
  EXPECT_EQ(result.sent, 600);
  EXPECT_EQ(result.replies(), 600);
  EXPECT_EQ(result.timeline.bins().size(), 6u);
}

TEST(PacerTest, ACountEndsTheRun) {
  Simulation simulation = HundredASecond(10s);
  simulation.plan.window.end = LoadClock::time_point::max();
  simulation.plan.count = 1234;
  EXPECT_EQ(simulation.Run({.stall = 0ns}).sent, 1234);
}

TEST(PacerTest, ThreadsShareOneSequence) {
  const ArrivalPlan plan = {.rate = 1000,
                            .seed = 5,
                            .window = {LoadClock::time_point(100ms), LoadClock::time_point::max()},
                            .count = 100};
  const RequestMix mix;
  const auto arrivals = [&](int thread, int num_threads) {
    std::vector<LoadClock::time_point> times;
    Pacer pacer(plan, mix, thread, num_threads);
    for (LoadClock::time_point now{};;) {
      const Pacer::Step step = pacer.Next(now, true);
      if (step.action == Pacer::Action::kEnd) return times;
      if (step.action == Pacer::Action::kSend) times.push_back(step.at);
      now = step.at;
    }
  };
  std::vector<LoadClock::time_point> shared;
  for (int thread = 0; thread < 3; ++thread) {
    for (LoadClock::time_point at : arrivals(thread, 3)) shared.push_back(at);
  }
  std::sort(shared.begin(), shared.end());
  EXPECT_EQ(shared, arrivals(0, 1));
}

}  // namespace
}  // namespace headlight::client
