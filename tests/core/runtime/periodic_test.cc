// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/periodic.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <thread>

namespace headlight {
namespace {

TEST(PeriodicTest, CallsAgainAndAgainOnAThreadOfItsOwn) {
  std::latch three_calls(3);
  std::atomic<bool> on_callers_thread = false;
  const Periodic periodic(std::chrono::milliseconds(1), [&, caller = std::this_thread::get_id()] {
    if (std::this_thread::get_id() == caller) on_callers_thread = true;
    if (!three_calls.try_wait()) three_calls.count_down();
  });
  three_calls.wait();
  EXPECT_FALSE(on_callers_thread);
}

TEST(PeriodicTest, TheFirstCallComesAfterAPeriodAndDestructionDoesNotWaitForIt) {
  std::atomic<int> calls = 0;
  {
    const Periodic periodic(std::chrono::hours(24), [&] { ++calls; });
  }
  EXPECT_EQ(calls, 0);
}

TEST(PeriodicTest, DestructionWaitsForACallUnderWay) {
  std::latch begun(1);
  std::atomic<bool> ended = false;
  {
    const Periodic periodic(std::chrono::milliseconds(1), [&] {
      if (begun.try_wait()) return;
      begun.count_down();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      ended = true;
    });
    begun.wait();
  }
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace headlight
