// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cpu_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace headlight {
namespace {

using ::testing::DoubleEq;
using ::testing::Eq;
using ::testing::Optional;

namespace fs = std::filesystem;

// A directory that stands for "/", filled with the files that a test names.
class CpuTopologyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "headlight_cpu_topology_XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& contents) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << contents;
  }

  std::optional<double> Quota() const { return DetectCpuTopology(root_.string()).quota_cpus; }

  fs::path root_;
};

TEST_F(CpuTopologyTest, HasNoQuotaWithoutCgroups) { EXPECT_THAT(Quota(), Eq(std::nullopt)); }

TEST_F(CpuTopologyTest, ReadsTheQuotaOfItsOwnGroupInV2) {
  Write("proc/self/cgroup", "0::/system.slice/headlight.service\n");
  Write("sys/fs/cgroup/system.slice/headlight.service/cpu.max", "250000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(2.5)));
}

TEST_F(CpuTopologyTest, TakesTheTightestGroupOnTheWayUpInV2) {
  Write("proc/self/cgroup", "0::/kubepods/pod/container\n");
  Write("sys/fs/cgroup/kubepods/pod/container/cpu.max", "400000 100000\n");
  Write("sys/fs/cgroup/kubepods/pod/cpu.max", "150000 100000\n");
  Write("sys/fs/cgroup/kubepods/cpu.max", "max 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(1.5)));
}

TEST_F(CpuTopologyTest, ReadsTheMountsRootInsideAContainer) {
  Write("proc/self/cgroup", "0::/\n");
  Write("sys/fs/cgroup/cpu.max", "300000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(3.0)));
}

TEST_F(CpuTopologyTest, FallsBackToTheMountsRootWhenItsGroupIsNotThere) {
  Write("proc/self/cgroup", "0::/docker/0123456789\n");
  Write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(0.5)));
}

TEST_F(CpuTopologyTest, DoesNotLeaveTheMountForAGroupOutsideItsNamespace) {
  Write("proc/self/cgroup", "0::/../../other\n");
  Write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  Write("sys/other/cpu.max", "100000 100000\n");
  Write("other/cpu.max", "100000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(2.0)));
}

TEST_F(CpuTopologyTest, MaxMeansNoQuotaInV2) {
  Write("proc/self/cgroup", "0::/group\n");
  Write("sys/fs/cgroup/group/cpu.max", "max 100000\n");
  EXPECT_THAT(Quota(), Eq(std::nullopt));
}

TEST_F(CpuTopologyTest, ReadsTheQuotaInV1) {
  Write("proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n");
  Write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "150000\n");
  Write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "50000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(3.0)));
}

TEST_F(CpuTopologyTest, FindsAMountNamedAfterTheCpuControllerAlone) {
  Write("proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(1.0)));
}

TEST_F(CpuTopologyTest, MinusOneMeansNoQuotaInV1) {
  Write("proc/self/cgroup", "4:cpu,cpuacct:/\n");
  Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(Quota(), Eq(std::nullopt));
}

TEST_F(CpuTopologyTest, IgnoresOtherControllersInV1) {
  Write("proc/self/cgroup", "4:cpuset:/\n3:cpuacct:/\n");
  Write("sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "100000\n");
  Write("sys/fs/cgroup/cpuset/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(Quota(), Eq(std::nullopt));
}

TEST_F(CpuTopologyTest, TakesTheTighterVersionOnHybridHosts) {
  Write("proc/self/cgroup", "4:cpu,cpuacct:/a\n0::/b\n");
  Write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "400000\n");
  Write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  Write("sys/fs/cgroup/b/cpu.max", "200000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(2.0)));
}

TEST_F(CpuTopologyTest, UnreadableNumbersCountAsNoQuota) {
  Write("proc/self/cgroup", "nonsense\n0::/a/b/c/d\n");
  Write("sys/fs/cgroup/a/cpu.max", "");
  Write("sys/fs/cgroup/a/b/cpu.max", "100000");
  Write("sys/fs/cgroup/a/b/c/cpu.max", "100000 0");
  Write("sys/fs/cgroup/a/b/c/d/cpu.max", "many 100000");
  EXPECT_THAT(Quota(), Eq(std::nullopt));
}

TEST_F(CpuTopologyTest, CountsTheCpusOfTheAffinityMask) {
  cpu_set_t saved;
  ASSERT_EQ(sched_getaffinity(0, sizeof(saved), &saved), 0);
  EXPECT_EQ(DetectCpuTopology().affinity_cpus, CPU_COUNT(&saved));

  cpu_set_t first_only;
  CPU_ZERO(&first_only);
  int first = 0;
  while (!CPU_ISSET(first, &saved)) ++first;
  CPU_SET(first, &first_only);
  ASSERT_EQ(sched_setaffinity(0, sizeof(first_only), &first_only), 0);
  EXPECT_EQ(DetectCpuTopology().affinity_cpus, 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(saved), &saved), 0);
}

TEST(ComputeThreadsTest, IsTheAffinityWithoutAQuota) {
  EXPECT_EQ((CpuTopology{.affinity_cpus = 8, .quota_cpus = std::nullopt}).ComputeThreads(), 8);
}

TEST(ComputeThreadsTest, RoundsTheQuotaDown) {
  EXPECT_EQ((CpuTopology{.affinity_cpus = 8, .quota_cpus = 2.9}).ComputeThreads(), 2);
}

TEST(ComputeThreadsTest, IsBoundedByTheAffinity) {
  EXPECT_EQ((CpuTopology{.affinity_cpus = 4, .quota_cpus = 1e12}).ComputeThreads(), 4);
}

TEST(ComputeThreadsTest, IsAtLeastOne) {
  EXPECT_EQ((CpuTopology{.affinity_cpus = 4, .quota_cpus = 0.25}).ComputeThreads(), 1);
}

}  // namespace
}  // namespace headlight
