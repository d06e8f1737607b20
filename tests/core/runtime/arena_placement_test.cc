// SPDX-License-Identifier: Apache-2.0
//
// On which CPUs an arena's threads run, and what it leaves behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "core/runtime/compute_arena.h"
#include "core/runtime/cpu_placement.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAreArray;

// The CPUs that each thread of the arena may use, by worker, while all are inside.
std::vector<std::vector<int>> CpusOfWorkers(ComputeArena& arena) {
  std::vector<std::vector<int>> cpus(arena.num_threads());
  std::atomic<int> arrived{0};
  arena.ForEach(arena.num_threads(), [&](int64_t, int worker) {
    cpus[worker] = AllowedCpus();
    ++arrived;
    while (arrived < arena.num_threads()) std::this_thread::yield();
  });
  return cpus;
}

class ArenaPlacementTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (num_cpus() < 2) GTEST_SKIP() << "an arena of one thread places none";
  }
  int num_cpus() const { return static_cast<int>(cpus_.size()); }

  const std::vector<int> cpus_ = AllowedCpus();
};

TEST_F(ArenaPlacementTest, WithAThreadForEachCpuEachHasItsOwn) {
  ComputeArena arena(num_cpus());
  std::vector<int> all;
  for (const std::vector<int>& cpus : CpusOfWorkers(arena)) {
    ASSERT_THAT(cpus, SizeIs(1));
    all.push_back(cpus[0]);
  }
  EXPECT_THAT(all, UnorderedElementsAreArray(cpus_));
}

TEST(ArenaNiceTest, ThreadsThatComputeAreNicerThanTheOthers) {
  const int before = getpriority(PRIO_PROCESS, 0);
  for (const int num_threads : {1, 2, 5}) {
    std::atomic<int> workers{0};
    std::thread caller([&] {
      ComputeArena arena(num_threads, /*nice=*/3);
      for (int round = 0; round < 2; ++round) {
        arena.Within([&] {
          arena.ForEach(num_threads, [&](int64_t, int) {
            EXPECT_EQ(getpriority(PRIO_PROCESS, 0), std::min(before + 3, 19));
            ++workers;
          });
        });
      }
    });
    caller.join();
    EXPECT_EQ(workers, 2 * num_threads);
  }
  EXPECT_EQ(getpriority(PRIO_PROCESS, 0), before);
}

// A thread begins with the niceness of the one that starts it, as oneTBB's workers start each other.
TEST(ArenaNiceTest, AThreadThatANicerOneHasStartedIsNoNicerThanThat) {
  const int before = getpriority(PRIO_PROCESS, 0);
  const auto compute = [](const std::function<void()>& work) {
    ComputeArena arena(1, /*nice=*/3);
    arena.Within(work);
  };
  std::thread([&] {
    compute([&] {
      std::thread([&] {
        compute([&] { EXPECT_EQ(getpriority(PRIO_PROCESS, 0), std::min(before + 3, 19)); });
      }).join();
    });
  }).join();
}

TEST_F(ArenaPlacementTest, WithMoreOrFewerThreadsTheKernelPlacesThem) {
  for (const int num_threads : {num_cpus() + 1, num_cpus() + 2}) {
    ComputeArena arena(num_threads);
    for (const std::vector<int>& cpus : CpusOfWorkers(arena)) EXPECT_EQ(cpus, cpus_);
  }
}

TEST_F(ArenaPlacementTest, TheCallerGoesBackToWhereItWas) {
  ComputeArena arena(num_cpus());
  CpusOfWorkers(arena);
  EXPECT_EQ(AllowedCpus(), cpus_);
  EXPECT_THROW(arena.ForEach(1, [](int64_t, int) { throw 1; }), int);
  EXPECT_EQ(AllowedCpus(), cpus_);
}

TEST_F(ArenaPlacementTest, WithinItTheCallerStaysWhereItIs) {
  ComputeArena arena(num_cpus());
  arena.Within([&] {
    const std::vector<int> before = AllowedCpus();
    EXPECT_THAT(before, SizeIs(1));
    std::atomic<int> visits{0};
    arena.ForEach(10, [&](int64_t, int) { ++visits; });
    EXPECT_EQ(visits, 10);
    EXPECT_EQ(AllowedCpus(), before);
  });
  EXPECT_EQ(AllowedCpus(), cpus_);
  EXPECT_THROW(arena.Within([] { throw 1; }), int);
  EXPECT_EQ(AllowedCpus(), cpus_);
}

// Workers belong to the process; one that served an arena with places serves one without.
TEST_F(ArenaPlacementTest, PlacesEndWithTheArena) {
  for (int round = 0; round < 20; ++round) {
    {
      ComputeArena placed(num_cpus());
      CpusOfWorkers(placed);
    }
    ComputeArena free(num_cpus() + 1);
    for (const std::vector<int>& cpus : CpusOfWorkers(free)) EXPECT_EQ(cpus, cpus_);
  }
}

TEST_F(ArenaPlacementTest, TwoArenasOfOneSizePlaceAlike) {
  ComputeArena one(num_cpus()), other(num_cpus());
  EXPECT_EQ(CpusOfWorkers(one), CpusOfWorkers(other));
}

TEST(CpuPlacementTest, ReleasingGoesBackToBeforeTheFirstPin) {
  const std::vector<int> cpus = AllowedCpus();
  ReleaseThisThread();  // nothing to release
  EXPECT_EQ(AllowedCpus(), cpus);
  PinThisThread(cpus.front());
  EXPECT_THAT(AllowedCpus(), ElementsAre(cpus.front()));
  PinThisThread(cpus.back());
  EXPECT_THAT(AllowedCpus(), ElementsAre(cpus.back()));
  ReleaseThisThread();
  EXPECT_EQ(AllowedCpus(), cpus);
}

TEST(CpuPlacementTest, ACpuThatIsNotAllowedChangesNothing) {
  const std::vector<int> cpus = AllowedCpus();
  PinThisThread(cpus.back() + 4000);
  EXPECT_EQ(AllowedCpus(), cpus);
  ReleaseThisThread();
  EXPECT_EQ(AllowedCpus(), cpus);
}

}  // namespace
}  // namespace headlight
