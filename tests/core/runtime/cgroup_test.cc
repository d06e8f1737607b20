// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace headlight {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "headlight_cgroup_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    fs::create_directories(root_ / "proc/self");
  }
  void TearDown() override { fs::remove_all(root_); }

  // The folders that are visited, below the place where groups are mounted, each with its version.
  std::vector<std::string> Visited(const std::string& groups, const std::string& controller) const {
    std::ofstream(root_ / "proc/self/cgroup") << groups;
    std::vector<std::string> visited;
    VisitCgroups(root_.string(), controller, [&](const fs::path& folder, CgroupVersion version) {
      visited.push_back((version == CgroupVersion::kV2 ? "v2 " : "v1 ") +
                        folder.lexically_relative(root_ / "sys/fs/cgroup").string());
    });
    return visited;
  }

  fs::path root_;
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
  EXPECT_THAT(Visited("nonsense\n\n0::/a\n", "cpu"), ElementsAre("v2 .", "v2 a"));
  fs::remove_all(root_ / "proc");
  EXPECT_THAT(Visited("0::/a\n", "cpu"), IsEmpty());
}

}  // namespace
}  // namespace headlight
