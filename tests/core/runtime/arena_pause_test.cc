// SPDX-License-Identifier: Apache-2.0
//
// Pausing an arena: who parks, who waits, and that nothing is lost.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "tests/core/testing/effort.h"

namespace headlight {
namespace {

// What a test waits for something that must happen; and how long it watches that something does not, which it
// would do within microseconds.
constexpr auto kPatience = std::chrono::seconds(60);
constexpr auto kWatch = std::chrono::milliseconds(20);

template <typename Condition>
bool Eventually(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

// Whether `number` keeps its value while we watch.
template <typename Number>
bool StandsStill(const std::atomic<Number>& number) {
  const Number before = number;
  std::this_thread::sleep_for(kWatch);
  return number == before;
}

class ArenaPauseTest : public ::testing::TestWithParam<int> {
 protected:
  int threads() const { return GetParam(); }

  // Bodies on all threads that count their checkpoints until `stop_`.
  std::future<void> Count() {
    return std::async(std::launch::async,
                      [this] { arena_.ForEach(threads(), [&](int64_t, int) { CountHere(); }); });
  }
  void CountHere() {
    ++running_;
    while (!stop_) {
      ++checkpoints_;
      arena_.Checkpoint();
    }
  }

  ComputeArena arena_{GetParam()};
  std::atomic<int> running_{0};
  std::atomic<int64_t> checkpoints_{0};
  std::atomic<bool> stop_{false};
};

INSTANTIATE_TEST_SUITE_P(Threads, ArenaPauseTest, ::testing::Values(1, 2, 4),
                         [](const auto& info) { return std::to_string(info.param) + "threads"; });

TEST_P(ArenaPauseTest, RunningBodiesParkAtTheirCheckpoint) {
  std::future<void> done = Count();
  ASSERT_TRUE(Eventually([&] { return running_ == threads(); }));
  for (int round = 0; round < 20; ++round) {
    arena_.Pause();
    const int64_t parked_at = checkpoints_;
    std::this_thread::yield();
    EXPECT_EQ(checkpoints_, parked_at);
    if (round == 0) {
      EXPECT_TRUE(StandsStill(checkpoints_));
    }
    arena_.Resume();
    EXPECT_TRUE(Eventually([&] { return checkpoints_ > parked_at; }));
  }
  stop_ = true;
  done.get();
}

TEST_P(ArenaPauseTest, NoBodyBeginsWhileItIsPaused) {
  std::atomic<int> visits{0};
  arena_.Pause();
  const auto done =
      std::async(std::launch::async, [&] { arena_.ForEach(10, [&](int64_t, int) { ++visits; }); });
  EXPECT_TRUE(StandsStill(visits));
  EXPECT_EQ(visits, 0);
  arena_.Resume();
  done.wait();
  EXPECT_EQ(visits, 10);
}

TEST_P(ArenaPauseTest, PausingWaitsForABodyThatIsNotAtACheckpoint) {
  std::atomic<bool> begun{false}, may_end{false}, ended{false};
  const auto done = std::async(std::launch::async, [&] {
    arena_.ForEach(1, [&](int64_t, int) {
      begun = true;
      Eventually([&] { return may_end.load(); });
      ended = true;
    });
  });
  ASSERT_TRUE(Eventually([&] { return begun.load(); }));
  const auto paused = std::async(std::launch::async, [&] {
    arena_.Pause();
    EXPECT_TRUE(ended);
  });
  EXPECT_EQ(paused.wait_for(kWatch), std::future_status::timeout);
  may_end = true;
  paused.wait();
  done.wait();
}

// The outer bodies do not park by themselves: they wait for inner ones, which are parked.
TEST_P(ArenaPauseTest, BodiesThatWaitForInnerOnesDoNotHoldItUp) {
  const auto done = std::async(std::launch::async, [&] {
    arena_.ForEach(threads(), [&](int64_t, int) {
      arena_.ForEach(threads(),
                     [&](int64_t, int) { arena_.ForEach(threads(), [&](int64_t, int) { CountHere(); }); });
    });
  });
  ASSERT_TRUE(Eventually([&] { return running_ == threads(); }));
  for (int round = 0; round < 20; ++round) {
    arena_.Pause();
    const int64_t parked_at = checkpoints_;
    std::this_thread::yield();
    EXPECT_EQ(checkpoints_, parked_at);
    arena_.Resume();
    EXPECT_TRUE(Eventually([&] { return checkpoints_ > parked_at; }));
  }
  stop_ = true;
  done.wait();
}

// An outer body that comes back from its inner loop while the arena is paused.
TEST_P(ArenaPauseTest, AnOuterBodyDoesNotGoOnWhileItIsPaused) {
  std::atomic<bool> inner_begun{false}, inner_may_end{false}, outer_goes_on{false};
  const auto done = std::async(std::launch::async, [&] {
    arena_.ForEach(1, [&](int64_t, int) {
      arena_.ForEach(1, [&](int64_t, int) {
        inner_begun = true;
        Eventually([&] { return inner_may_end.load(); });
      });
      outer_goes_on = true;
    });
  });
  ASSERT_TRUE(Eventually([&] { return inner_begun.load(); }));
  const auto paused = std::async(std::launch::async, [&] { arena_.Pause(); });
  ASSERT_EQ(paused.wait_for(kWatch), std::future_status::timeout);
  inner_may_end = true;
  paused.wait();
  EXPECT_TRUE(StandsStill(outer_goes_on));
  EXPECT_FALSE(outer_goes_on);
  arena_.Resume();
  done.wait();
  EXPECT_TRUE(outer_goes_on);
}

TEST_P(ArenaPauseTest, PausingTwiceIsPausingOnce) {
  std::future<void> done = Count();
  ASSERT_TRUE(Eventually([&] { return running_ == threads(); }));
  arena_.Pause();
  std::thread([&] { arena_.Pause(); }).join();
  arena_.Pause();
  EXPECT_TRUE(StandsStill(checkpoints_));
  const int64_t parked_at = checkpoints_;
  arena_.Resume();
  EXPECT_TRUE(Eventually([&] { return checkpoints_ > parked_at; }));
  arena_.Resume();
  stop_ = true;
  done.get();
}

TEST_P(ArenaPauseTest, ResumingWhatIsNotPausedDoesNothing) {
  arena_.Resume();
  std::atomic<int> visits{0};
  arena_.ForEach(10, [&](int64_t, int) { ++visits; });
  EXPECT_EQ(visits, 10);
  arena_.Pause();
  EXPECT_EQ(visits, 10);
  arena_.Resume();
}

TEST_P(ArenaPauseTest, ResumingEndsThePauseThatStillWaits) {
  std::atomic<bool> begun{false}, may_end{false};
  const auto done = std::async(std::launch::async, [&] {
    arena_.ForEach(1, [&](int64_t, int) {
      begun = true;
      Eventually([&] { return may_end.load(); });
    });
  });
  ASSERT_TRUE(Eventually([&] { return begun.load(); }));
  const auto paused = std::async(std::launch::async, [&] { arena_.Pause(); });
  ASSERT_EQ(paused.wait_for(kWatch), std::future_status::timeout);
  arena_.Resume();
  EXPECT_EQ(paused.wait_for(kPatience), std::future_status::ready);
  may_end = true;
  done.wait();
}

TEST_P(ArenaPauseTest, ACheckpointOutsideOfBodiesWaitsToo) {
  arena_.Checkpoint();
  arena_.Pause();
  const auto passed = std::async(std::launch::async, [&] { arena_.Checkpoint(); });
  EXPECT_EQ(passed.wait_for(kWatch), std::future_status::timeout);
  arena_.Pause();  // which does not wait for it
  arena_.Resume();
  passed.wait();
}

TEST_P(ArenaPauseTest, ExceptionsLeaveTheGateInOrder) {
  const auto throwing = [&](int64_t item, int) {
    arena_.ForEach(3, [&](int64_t inner, int) {
      arena_.Checkpoint();
      if (item == 1 && inner == 1) throw std::runtime_error("1, 1");
    });
  };
  EXPECT_THROW(arena_.ForEach(4, throwing), std::runtime_error);
  arena_.Pause();  // would hang had a body been left inside
  const auto thrown = std::async(std::launch::async, [&] { arena_.ForEach(4, throwing); });
  arena_.Pause();
  arena_.Resume();
  EXPECT_EQ(thrown.wait_for(kPatience), std::future_status::ready);
}

TEST_P(ArenaPauseTest, AnotherArenaHasAllItsThreadsMeanwhile) {
  std::future<void> done = Count();
  ASSERT_TRUE(Eventually([&] { return running_ == threads(); }));
  arena_.Pause();
  ComputeArena other(threads());
  for (int round = 0; round < 5; ++round) {
    std::atomic<int> arrived{0};
    other.ForEach(threads(), [&](int64_t, int) {
      ++arrived;
      other.Checkpoint();
      EXPECT_TRUE(Eventually([&] { return arrived == threads(); }));
    });
  }
  EXPECT_TRUE(StandsStill(checkpoints_));
  arena_.Resume();
  stop_ = true;
  done.get();
}

TEST_P(ArenaPauseTest, MayBeDestroyedWhileItIsPaused) {
  ComputeArena arena(threads());
  arena.ForEach(10, [](int64_t, int) {});
  arena.Pause();
}

// Plain memory, so that ThreadSanitizer sees whether pausing orders what it should.
TEST_P(ArenaPauseTest, WhoPausesSeesWhatBodiesWroteAndTheReverse) {
  std::vector<int64_t> written(threads(), 0);
  int64_t told = 0;
  const auto done = std::async(std::launch::async, [&] {
    arena_.ForEach(threads(), [&](int64_t item, int) {
      ++running_;
      while (!stop_) {
        EXPECT_GE(written[item] + 1, told);
        ++written[item];
        arena_.Checkpoint();
      }
    });
  });
  ASSERT_TRUE(Eventually([&] { return running_ == threads(); }));
  for (int round = 0; round < 50; ++round) {
    arena_.Pause();
    int64_t least = written[0];
    for (const int64_t count : written) least = std::min(least, count);
    EXPECT_GE(least, told);
    told = least;
    arena_.Resume();
    std::this_thread::yield();
  }
  stop_ = true;
  done.wait();
}

TEST_P(ArenaPauseTest, AWatcherSeesEveryCheckpoint) {
  std::atomic<int> seen{0};
  arena_.WatchCheckpoints([&] { ++seen; });
  const auto three_each = [&](int64_t, int) {
    for (int i = 0; i < 3; ++i) arena_.Checkpoint();
  };
  arena_.ForEach(10, three_each);
  EXPECT_EQ(seen, 30);
  arena_.Pause();  // which a watched arena can be
  const auto done = std::async(std::launch::async, [&] { arena_.ForEach(10, three_each); });
  EXPECT_TRUE(StandsStill(seen));
  arena_.Resume();
  done.wait();
  EXPECT_EQ(seen, 60);
  arena_.WatchCheckpoints(nullptr);
  arena_.ForEach(10, three_each);
  EXPECT_EQ(seen, 60);
}

// Several callers, nested loops, exceptions, and two threads that pause and resume as they like.
TEST_P(ArenaPauseTest, NothingIsLostUnderAnyPausing) {
  constexpr int kCallers = 3;
  const int rounds = testing::Repetitions(40);
  std::atomic<int64_t> visits{0};
  std::vector<std::thread> pausers;
  for (int p = 0; p < 2; ++p) {
    pausers.emplace_back([&, p] {
      testing::Rng rng = testing::MakeRng(p);
      while (!stop_) {
        arena_.Pause();
        if (testing::OneIn(rng, 3)) std::this_thread::yield();
        arena_.Resume();
        for (int64_t i = testing::UniformInt(rng, 0, 3); i > 0; --i) std::this_thread::yield();
      }
    });
  }
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < rounds; ++round) {
        arena_.ForEach(6, [&](int64_t, int) {
          arena_.Checkpoint();
          arena_.ForEach(5, [&](int64_t, int) {
            arena_.Checkpoint();
            ++visits;
          });
        });
        EXPECT_THROW(arena_.ForEach(3,
                                    [&](int64_t item, int) {
                                      arena_.Checkpoint();
                                      if (item == 1) throw std::runtime_error("thrown");
                                    }),
                     std::runtime_error);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  stop_ = true;
  for (std::thread& pauser : pausers) pauser.join();
  EXPECT_EQ(visits, int64_t{kCallers} * rounds * 30);
  arena_.Pause();  // nobody was left inside
}

TEST_P(ArenaPauseTest, WakingChangesNothingButTheTime) {
  std::vector<std::thread> wakers;
  for (int w = 0; w < 2; ++w) {
    wakers.emplace_back([&] {
      while (!stop_) arena_.Wake();
    });
  }
  for (int round = 0; round < testing::Repetitions(100); ++round) {
    std::atomic<int> visits{0};
    arena_.ForEach(20, [&](int64_t, int) { ++visits; });
    EXPECT_EQ(visits, 20);
    arena_.Pause();
    arena_.Resume();
  }
  stop_ = true;
  for (std::thread& waker : wakers) waker.join();
}

TEST_P(ArenaPauseTest, MayBeDestroyedRightAfterItWasWoken) {
  for (int round = 0; round < testing::Repetitions(100); ++round) {
    ComputeArena arena(threads());
    arena.Wake();
  }
}

}  // namespace
}  // namespace headlight
