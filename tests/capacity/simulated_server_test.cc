// SPDX-License-Identifier: Apache-2.0
#include "capacity/simulated_server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "core/runtime/cancellation.h"

namespace headlight::capacity {
namespace {

using std::chrono::milliseconds;

constexpr TimePoint kNow{std::chrono::hours(1)};

// Work in milliseconds is its projection operations.
class SimulatedServerTest : public ::testing::Test {
 protected:
  SimulatedServerTest() {
    server_.engine().cost_model().Introduce(
        0, {.ns_per_projection_flop = 1e6, .ns_per_attention_flop = 1, .ns_per_byte = 1, .fixed_ns = 1});
  }

  // Whether it was admitted.
  bool Submit(TimePoint now, double work_ms, TimePoint deadline = TimePoint::max()) {
    auto ticket = std::make_unique<Ticket>();
    ticket->arrival = now;
    ticket->deadline = deadline;
    ticket->cost.projection_flops = work_ms;
    ticket->cancelled = std::make_shared<CancellationToken>();
    return !server_.Submit(now, std::move(ticket), ended_).has_value();
  }

  // When the next ticket ends; max: none does.
  TimePoint NextEnd() {
    ended_.clear();
    for (int i = 0; i < 100 && ended_.empty(); ++i) {
      const TimePoint next = server_.next_event();
      if (next == TimePoint::max()) return next;
      server_.Advance(next, ended_);
      if (!ended_.empty()) return next;
    }
    return TimePoint::max();
  }

  SimulatedServer server_{EngineOptions(), /*has_long_lane=*/true, [](const Batch& batch) {
                            double ms = 0;
                            for (const auto& ticket : batch.tickets) ms += ticket->cost.projection_flops;
                            return ms * 1e6;
                          }};
  std::vector<FinishedTicket> ended_;
};

TEST_F(SimulatedServerTest, ComputesWhatWaitsTogether) {
  EXPECT_EQ(server_.next_event(), TimePoint::max());
  ASSERT_TRUE(Submit(kNow, 4));
  ASSERT_TRUE(Submit(kNow, 2));
  ASSERT_TRUE(Submit(kNow, 2));
  EXPECT_EQ(NextEnd(), kNow + milliseconds(4));
  EXPECT_EQ(NextEnd(), kNow + milliseconds(8));
  EXPECT_EQ(ended_.size(), 2);
  EXPECT_EQ(server_.busy_ns(), 8e6);
  EXPECT_EQ(NextEnd(), TimePoint::max());
}

TEST_F(SimulatedServerTest, WhatRunsLongStandsStillWhileShortOnesRun) {
  ASSERT_TRUE(Submit(kNow, 100));
  const TimePoint later = kNow + milliseconds(30);
  ASSERT_TRUE(Submit(later, 4));
  EXPECT_EQ(NextEnd(), later + milliseconds(4));
  EXPECT_EQ(NextEnd(), kNow + milliseconds(104));
  EXPECT_EQ(ended_.front().outcome.compute_us, 100'000);
}

TEST_F(SimulatedServerTest, RefusesWhatCannotBeInTime) {  // and is careful, having seen nothing yet
  ASSERT_TRUE(Submit(kNow, 30));
  EXPECT_FALSE(Submit(kNow, 4, kNow + milliseconds(20)));
  EXPECT_TRUE(Submit(kNow, 4, kNow + milliseconds(2000)));
}

}  // namespace
}  // namespace headlight::capacity
