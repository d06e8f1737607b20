// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class CgroupTest : public ::testing::Test {
 protected:
  // The folders that are visited, below the place where groups are mounted, each with its version.
  std::vector<std::string> Visited(const std::string& groups, const std::string& controller) const {
    root_.Write("proc/self/cgroup", groups);
    return Visited(controller);
  }
  std::vector<std::string> Visited(const std::string& controller) const {
    std::vector<std::string> visited;
    VisitCgroups(root_.path(), controller, [&](const fs::path& folder, CgroupVersion version) {
      visited.push_back((version == CgroupVersion::kV2 ? "v2 " : "v1 ") +
                        folder.lexically_relative(root_.File("sys/fs/cgroup")).string());
    });
    return visited;
  }

  const testing::TempFolder root_;  // stands for "/"
};

TEST_F(CgroupTest, InVersion2OneTreeHoldsEverything) {
  EXPECT_THAT(Visited("0::/a/b\n", "cpu"), ElementsAre("v2 .", "v2 a", "v2 a/b"));
  EXPECT_THAT(Visited("0::/\n", "memory"), ElementsAre("v2 ."));
}

TEST_F(CgroupTest, InVersion1EachControllerHasATreeUnderOneNameOrAll) {
  EXPECT_THAT(Visited("5:memory:/m\n4:cpu,cpuacct:/c\n", "cpu"),
              ElementsAre("v1 cpu", "v1 cpu/c", "v1 cpu,cpuacct", "v1 cpu,cpuacct/c"));
  EXPECT_THAT(Visited("5:memory:/m\n4:cpu,cpuacct:/c\n", "memory"), ElementsAre("v1 memory", "v1 memory/m"));
  EXPECT_THAT(Visited("4:cpuset:/\n3:cpuacct:/\n", "cpu"), IsEmpty());
}

TEST_F(CgroupTest, AGroupOutsideOfTheNamespaceIsTheRoot) {
  EXPECT_THAT(Visited("0::/../../elsewhere\n", "cpu"), ElementsAre("v2 ."));
}

TEST_F(CgroupTest, WhatIsNoGroupIsPassedOver) {
  EXPECT_THAT(Visited("cpu"), IsEmpty());  // there is no file
  EXPECT_THAT(Visited("nonsense\n\n0::/a\n", "cpu"), ElementsAre("v2 .", "v2 a"));
}

}  // namespace
}  // namespace headlight
