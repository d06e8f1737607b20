// SPDX-License-Identifier: Apache-2.0
//
// When an arena's threads are told that they go idle.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "core/runtime/compute_arena.h"
#include "core/runtime/idle_calls.h"

namespace headlight {
namespace {

// As a product keeps tiles: taken by bodies, given back where the thread goes idle.
std::atomic<int> held_by_all{0};
thread_local bool held = false;
thread_local int calls = 0;

void Take() {
  if (std::exchange(held, true)) return;
  ++held_by_all;
}
void GiveBack() {
  ++calls;
  if (std::exchange(held, false)) --held_by_all;
}

bool Eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

class ArenaIdleTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { CallWhenIdle(&GiveBack); }

  // Bodies on all threads at once.
  void TakeOnAll() {
    std::atomic<int> arrived{0};
    arena_.ForEach(GetParam(), [&](int64_t, int) {
      Take();
      ++arrived;
      while (arrived < GetParam()) std::this_thread::yield();
    });
  }

  ComputeArena arena_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Threads, ArenaIdleTest, ::testing::Values(1, 2, 4),
                         [](const auto& info) { return std::to_string(info.param) + "threads"; });

TEST_P(ArenaIdleTest, CallersAreToldBeforeForEachReturnsAndWorkersWhenTheySleep) {
  for (int round = 0; round < 3; ++round) {
    TakeOnAll();
    EXPECT_FALSE(held);
    EXPECT_TRUE(Eventually([] { return held_by_all == 0; })) << held_by_all;
  }
}

TEST_P(ArenaIdleTest, WithinTheArenaLoopsEndWithoutThat) {
  const int before = calls;
  std::thread::id inside;
  arena_.Within([&] {
    inside = std::this_thread::get_id();
    Take();
    arena_.ForEach(3, [&](int64_t, int) { Take(); });
    EXPECT_TRUE(held);
    arena_.Within([&] { arena_.ForEach(3, [&](int64_t, int) { Take(); }); });
    EXPECT_TRUE(held);
  });
  if (inside == std::this_thread::get_id()) {
    EXPECT_EQ(calls, before + 1);
  }
  EXPECT_FALSE(held);
  EXPECT_TRUE(Eventually([] { return held_by_all == 0; }));
}

TEST_P(ArenaIdleTest, InnerLoopsEndWithoutThat) {
  arena_.ForEach(1, [&](int64_t, int) {
    Take();
    arena_.ForEach(5, [](int64_t, int) {});
    EXPECT_TRUE(held);
  });
  EXPECT_FALSE(held);
}

TEST_P(ArenaIdleTest, AlsoAfterAnException) {
  EXPECT_THROW(arena_.ForEach(1,
                              [](int64_t, int) {
                                Take();
                                throw std::runtime_error("no");
                              }),
               std::runtime_error);
  EXPECT_FALSE(held);
  EXPECT_THROW(arena_.Within([] {
    Take();
    throw std::runtime_error("no");
  }),
               std::runtime_error);
  EXPECT_TRUE(Eventually([] { return held_by_all == 0; }));
}

// Long work stands still while short work has the CPUs.
TEST_P(ArenaIdleTest, ParkedThreadsAreIdle) {
  std::atomic<bool> stop{false};
  std::atomic<int> running{0};
  const auto done = std::async(std::launch::async, [&] {
    arena_.ForEach(GetParam(), [&](int64_t, int) {
      ++running;
      while (!stop) {
        Take();
        arena_.Checkpoint();
      }
    });
  });
  ASSERT_TRUE(Eventually([&] { return running == GetParam(); }));
  arena_.Pause();
  EXPECT_TRUE(Eventually([] { return held_by_all == 0; })) << held_by_all;
  arena_.Resume();
  EXPECT_TRUE(Eventually([] { return held_by_all > 0; }));
  stop = true;
  done.wait();
  EXPECT_TRUE(Eventually([] { return held_by_all == 0; }));
}

TEST(IdleCallsTest, RegisteringTwiceCallsOnce) {
  CallWhenIdle(&GiveBack);
  CallWhenIdle(&GiveBack);
  ComputeArena arena(1);
  const int before = calls;
  arena.ForEach(1, [](int64_t, int) {});
  EXPECT_EQ(calls, before + 1);
}

}  // namespace
}  // namespace headlight
