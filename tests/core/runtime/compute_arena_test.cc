// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/compute_arena.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace headlight {
namespace {

using ::testing::Each;

// Halves the smallest normal number. The operands are volatile, so that the division happens at run time and
// here.
float HalfOfSmallestNormal() {
  volatile float smallest = std::numeric_limits<float>::min();
  volatile float half = smallest / 2;
  return half;
}

// Counts the calls that are inside with one worker number, and remembers whether there were ever two.
class WorkerUse {
 public:
  explicit WorkerUse(int num_workers) : inside_(num_workers) {}

  void Enter(int worker) {
    if (worker < 0 || worker >= static_cast<int>(inside_.size())) {
      out_of_range_ = true;
    } else if (++inside_[worker] > 1) {
      shared_ = true;
    }
  }
  void Leave(int worker) { --inside_[worker]; }

  bool out_of_range() const { return out_of_range_; }
  bool shared() const { return shared_; }

 private:
  std::vector<std::atomic<int>> inside_;
  std::atomic<bool> out_of_range_{false};
  std::atomic<bool> shared_{false};
};

void Spin(std::chrono::microseconds duration) {
  const auto end = std::chrono::steady_clock::now() + duration;
  while (std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

// True if `count` reaches `wanted` within ten seconds.
bool WaitFor(const std::atomic<int>& count, int wanted) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (count.load() < wanted) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

class ComputeArenaTest : public ::testing::TestWithParam<int> {
 protected:
  ComputeArena arena_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Threads, ComputeArenaTest, ::testing::Values(1, 2, 4),
                         [](const auto& info) { return std::to_string(info.param) + "threads"; });

TEST_P(ComputeArenaTest, VisitsEveryItemOnce) {
  for (int64_t num_items : {0, 1, 2, 3, 100, 1000}) {
    std::vector<std::atomic<int>> visits(num_items);
    arena_.ForEach(num_items, [&](int64_t item, int) { ++visits[item]; });
    for (int64_t item = 0; item < num_items; ++item) EXPECT_EQ(visits[item], 1) << "item " << item;
  }
}

TEST_P(ComputeArenaTest, IgnoresNegativeCounts) {
  arena_.ForEach(-1, [](int64_t, int) { ADD_FAILURE(); });
}

TEST_P(ComputeArenaTest, NeverSharesAWorkerBetweenConcurrentBodies) {
  WorkerUse use(arena_.num_threads());
  arena_.ForEach(500, [&](int64_t, int worker) {
    use.Enter(worker);
    Spin(std::chrono::microseconds(20));
    use.Leave(worker);
  });
  EXPECT_FALSE(use.out_of_range());
  EXPECT_FALSE(use.shared());
}

// On a machine with fewer CPUs too: each body waits for all the others.
TEST_P(ComputeArenaTest, ReallyHasThatManyThreads) {
  std::atomic<int> arrived{0};
  arena_.ForEach(GetParam(), [&](int64_t, int) {
    ++arrived;
    EXPECT_TRUE(WaitFor(arrived, GetParam()));
  });
}

TEST_P(ComputeArenaTest, SeveralCallersEachSeeTheirOwnWorkers) {
  constexpr int kCallers = 6;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([this] {
      WorkerUse use(arena_.num_threads());
      std::atomic<int> visits{0};
      for (int round = 0; round < 20; ++round) {
        arena_.ForEach(10, [&](int64_t, int worker) {
          use.Enter(worker);
          ++visits;
          Spin(std::chrono::microseconds(20));
          use.Leave(worker);
        });
      }
      EXPECT_EQ(visits, 200);
      EXPECT_FALSE(use.out_of_range());
      EXPECT_FALSE(use.shared());
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST_P(ComputeArenaTest, NestedCallsKeepTheWorkerOfTheOuterItem) {
  // What the outer item of each worker keeps in its scratch memory.
  std::vector<std::atomic<int64_t>> scratch(arena_.num_threads());
  std::atomic<int> inner_visits{0};
  arena_.ForEach(40, [&](int64_t outer, int outer_worker) {
    scratch[outer_worker] = outer;
    arena_.ForEach(10, [&](int64_t, int) {
      ++inner_visits;
      Spin(std::chrono::microseconds(5));
    });
    // Had the wait above taken another outer item, that one would have written its own number here.
    EXPECT_EQ(scratch[outer_worker], outer);
  });
  EXPECT_EQ(inner_visits, 400);
}

TEST_P(ComputeArenaTest, NestedBodiesHaveWorkersOfTheirOwn) {
  arena_.ForEach(8, [&](int64_t, int) {
    WorkerUse use(arena_.num_threads());
    arena_.ForEach(20, [&](int64_t, int worker) {
      use.Enter(worker);
      Spin(std::chrono::microseconds(5));
      use.Leave(worker);
    });
    EXPECT_FALSE(use.out_of_range());
    EXPECT_FALSE(use.shared());
  });
}

TEST_P(ComputeArenaTest, ThrowsWhatABodyThrew) {
  std::atomic<int> inside{0};
  const auto throwing = [&](int64_t item, int) {
    ++inside;
    Spin(std::chrono::microseconds(20));
    --inside;
    if (item == 17) throw std::runtime_error("item 17");
  };
  EXPECT_THROW(arena_.ForEach(50, throwing), std::runtime_error);
  EXPECT_EQ(inside, 0);

  std::atomic<int> visits{0};
  arena_.ForEach(50, [&](int64_t, int) { ++visits; });
  EXPECT_EQ(visits, 50) << "the arena must go on working";
}

TEST_P(ComputeArenaTest, BodiesRunOpenMpOnOneThread) {
  std::vector<int> omp_threads(50);
  arena_.ForEach(50, [&](int64_t item, int) { omp_threads[item] = omp_get_max_threads(); });
  EXPECT_THAT(omp_threads, Each(1));
}

TEST_P(ComputeArenaTest, BodiesFlushDenormals) {
#if !defined(__x86_64__) && !defined(__aarch64__)
  GTEST_SKIP() << "only x86-64 and aarch64 are asked to";
#endif
  std::vector<float> halves(50, -1.0f);
  arena_.ForEach(50, [&](int64_t item, int) { halves[item] = HalfOfSmallestNormal(); });
  EXPECT_THAT(halves, Each(0.0f));
}

TEST_P(ComputeArenaTest, NestedBodiesDoSoToo) {
  std::atomic<int> wrong{0};
  arena_.ForEach(10, [&](int64_t, int) {
    arena_.ForEach(10, [&](int64_t, int) {
      if (omp_get_max_threads() != 1 || HalfOfSmallestNormal() != 0.0f) ++wrong;
    });
    if (omp_get_max_threads() != 1 || HalfOfSmallestNormal() != 0.0f) ++wrong;
  });
  EXPECT_EQ(wrong, 0);
}

TEST_P(ComputeArenaTest, CallersGetTheirSettingsBack) {
  const int saved_threads = omp_get_max_threads();
  omp_set_num_threads(3);
  arena_.ForEach(50, [](int64_t, int) {});
  EXPECT_EQ(omp_get_max_threads(), 3);
  EXPECT_GT(HalfOfSmallestNormal(), 0.0f);

  EXPECT_THROW(arena_.ForEach(4, [](int64_t, int) { throw std::runtime_error("thrown"); }),
               std::runtime_error);
  EXPECT_EQ(omp_get_max_threads(), 3);
  EXPECT_GT(HalfOfSmallestNormal(), 0.0f);
  omp_set_num_threads(saved_threads);
}

TEST(ComputeArenaSizeTest, ArenasOfDifferentSizesLiveSideBySide) {
  ComputeArena two(2);
  ComputeArena four(4);
  EXPECT_EQ(two.num_threads(), 2);
  EXPECT_EQ(four.num_threads(), 4);
  for (ComputeArena* arena : {&four, &two}) {
    std::atomic<int> arrived{0};
    const int num_threads = arena->num_threads();
    arena->ForEach(num_threads, [&](int64_t, int) {
      ++arrived;
      EXPECT_TRUE(WaitFor(arrived, num_threads));
    });
  }
}

}  // namespace
}  // namespace headlight
