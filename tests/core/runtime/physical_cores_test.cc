// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/physical_cores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int> Cpus(int count) {
  std::vector<int> cpus(count);
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

class PhysicalCoresTest : public ::testing::Test {
 protected:
  void SetSiblings(int cpu, const std::string& siblings) const {
    root_.Write(absl::StrCat("sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list"), siblings);
  }
  // Cores of CPU i and CPU i + num_cores, as Linux numbers them.
  void SetTwoWaySmt(int num_cores) const {
    for (int cpu = 0; cpu < 2 * num_cores; ++cpu) {
      SetSiblings(cpu, absl::StrCat(cpu % num_cores, ",", cpu % num_cores + num_cores, "\n"));
    }
  }
  std::vector<std::vector<int>> Cores(const std::vector<int>& cpus) const {
    return PhysicalCores(cpus, root_.path());
  }

  const testing::TempFolder root_;  // stands for "/"
};

TEST_F(PhysicalCoresTest, WithoutSmtEachCpuIsACore) {
  for (const int cpu : Cpus(3)) SetSiblings(cpu, absl::StrCat(cpu, "\n"));
  EXPECT_THAT(Cores(Cpus(3)), ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(2)));
}

TEST_F(PhysicalCoresTest, SiblingsAreOneCore) {
  SetTwoWaySmt(2);
  EXPECT_THAT(Cores(Cpus(4)), ElementsAre(ElementsAre(0, 2), ElementsAre(1, 3)));
}

// As virtual machines number them, and four threads a core.
TEST_F(PhysicalCoresTest, SiblingsMayBeNeighbours) {
  for (const int cpu : Cpus(8)) SetSiblings(cpu, cpu < 4 ? "0-3\n" : "4-7\n");
  EXPECT_THAT(Cores(Cpus(8)), ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(4, 5, 6, 7)));
}

TEST_F(PhysicalCoresTest, CpusThatAreNotAllowedDoNotCount) {
  SetTwoWaySmt(4);
  EXPECT_THAT(Cores({1, 2, 4, 5}), ElementsAre(ElementsAre(4), ElementsAre(1, 5), ElementsAre(2)));
}

TEST_F(PhysicalCoresTest, WhatCannotBeReadIsACoreOfItsOwn) {
  EXPECT_THAT(Cores(Cpus(2)), ElementsAre(ElementsAre(0), ElementsAre(1)));
  SetSiblings(0, "nonsense\n");
  SetSiblings(1, "");
  SetSiblings(2, "0\n");  // not even itself
  EXPECT_THAT(Cores(Cpus(3)), ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(2)));
}

// The kernel lists no CPU that is offline among siblings, and gives it no topology.
TEST_F(PhysicalCoresTest, ACoreWhoseOtherCpuIsOfflineHasOne) {
  SetTwoWaySmt(2);
  SetSiblings(0, "0\n");
  root_.Write("sys/devices/system/cpu/cpu2/online", "0\n");
  EXPECT_THAT(Cores({0, 1, 3}), ElementsAre(ElementsAre(0), ElementsAre(1, 3)));
}

TEST(PlacesTest, AsManyThreadsAsCoresHaveACoreEach) {
  EXPECT_THAT(PlacesFor(2, {{0, 2}, {1, 3}}), ElementsAre(0, 1));
  EXPECT_THAT(PlacesFor(3, {{4}, {1, 5}, {2}}), ElementsAre(4, 1, 2));
}

TEST(PlacesTest, AsManyThreadsAsCpusHaveACpuEach) {
  EXPECT_THAT(PlacesFor(4, {{0, 2}, {1, 3}}), ElementsAre(0, 2, 1, 3));
  EXPECT_THAT(PlacesFor(2, {{0}, {1}}), ElementsAre(0, 1));
}

TEST(PlacesTest, OtherwiseTheKernelPlacesThem) {
  for (const int num_threads : {1, 3, 5}) EXPECT_THAT(PlacesFor(num_threads, {{0, 2}, {1, 3}}), IsEmpty());
}

}  // namespace
}  // namespace headlight
