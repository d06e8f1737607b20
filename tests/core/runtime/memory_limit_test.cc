// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/memory_limit.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace headlight {
namespace {

namespace fs = std::filesystem;

class MemoryLimitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  int64_t Detect() const { return DetectMemoryLimitBytes(root_.string()); }

  fs::path root_;
};

TEST_F(MemoryLimitTest, WithoutACgroupItIsThePhysicalMemory) { EXPECT_GT(Detect(), 1 << 20); }

TEST_F(MemoryLimitTest, TheTightestGroupOfVersion2Counts) {
  const int64_t physical = Detect();
  Write("proc/self/cgroup", "0::/outer/inner\n");
  Write("sys/fs/cgroup/outer/memory.max", "1000000\n");
  Write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  EXPECT_EQ(Detect(), 1000000);
  Write("sys/fs/cgroup/outer/inner/memory.max", "4096\n");
  EXPECT_EQ(Detect(), 4096);
  Write("proc/self/cgroup", "0::/elsewhere\n");
  EXPECT_EQ(Detect(), physical);
  Write("sys/fs/cgroup/memory.max", "2000000\n");  // a container's own group, seen as the root
  EXPECT_EQ(Detect(), 2000000);
}

TEST_F(MemoryLimitTest, TheMemoryControllerOfVersion1Counts) {
  const int64_t physical = Detect();
  Write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // no limit
  EXPECT_EQ(Detect(), physical);
  Write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "8192\n");
  EXPECT_EQ(Detect(), 8192);
}

TEST_F(MemoryLimitTest, WhatIsNoNumberIsNoLimit) {
  const int64_t physical = Detect();
  Write("proc/self/cgroup", "0::/\nnonsense\n");
  for (const char* text : {"", "much\n", "-1\n", "0\n"}) {
    Write("sys/fs/cgroup/memory.max", text);
    EXPECT_EQ(Detect(), physical) << text;
  }
}

}  // namespace
}  // namespace headlight
