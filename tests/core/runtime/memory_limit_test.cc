// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/memory_limit.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

class MemoryLimitTest : public ::testing::Test {
 protected:
  int64_t Detect() const { return DetectMemoryLimitBytes(root_.path()); }

  const testing::TempFolder root_;  // stands for "/"
};

TEST_F(MemoryLimitTest, WithoutACgroupItIsThePhysicalMemory) { EXPECT_GT(Detect(), 1 << 20); }

TEST_F(MemoryLimitTest, TheTightestGroupOfVersion2Counts) {
  const int64_t physical = Detect();
  root_.Write("proc/self/cgroup", "0::/outer/inner\n");
  root_.Write("sys/fs/cgroup/outer/memory.max", "1000000\n");
  root_.Write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  EXPECT_EQ(Detect(), 1000000);
  root_.Write("sys/fs/cgroup/outer/inner/memory.max", "4096\n");
  EXPECT_EQ(Detect(), 4096);
  root_.Write("proc/self/cgroup", "0::/elsewhere\n");
  EXPECT_EQ(Detect(), physical);
  root_.Write("sys/fs/cgroup/memory.max", "2000000\n");  // a container's own group, seen as the root
  EXPECT_EQ(Detect(), 2000000);
}

TEST_F(MemoryLimitTest, TheMemoryControllerOfVersion1Counts) {
  const int64_t physical = Detect();
  root_.Write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n");
  root_.Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // no limit
  EXPECT_EQ(Detect(), physical);
  root_.Write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "8192\n");
  EXPECT_EQ(Detect(), 8192);
}

TEST_F(MemoryLimitTest, WhatIsNoNumberIsNoLimit) {
  const int64_t physical = Detect();
  root_.Write("proc/self/cgroup", "0::/\nnonsense\n");
  for (const char* text : {"", "much\n", "-1\n", "0\n"}) {
    root_.Write("sys/fs/cgroup/memory.max", text);
    EXPECT_EQ(Detect(), physical) << text;
  }
}

}  // namespace
}  // namespace headlight
