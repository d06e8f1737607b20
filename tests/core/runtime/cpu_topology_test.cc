// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/cpu_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::DoubleEq;
using ::testing::Eq;
using ::testing::Optional;

// A directory that stands for "/", filled with the files that a test names.
class CpuTopologyTest : public ::testing::Test {
 protected:
  std::optional<double> Quota() const { return DetectCpuTopology(root_.path()).quota_cpus; }

  const testing::TempFolder root_;  // stands for "/"
};

TEST_F(CpuTopologyTest, HasNoQuotaWithoutCgroups) { EXPECT_THAT(Quota(), Eq(std::nullopt)); }

TEST_F(CpuTopologyTest, ReadsTheQuotaOfItsOwnGroupInV2) {
  root_.Write("proc/self/cgroup", "0::/system.slice/headlight.service\n");
  root_.Write("sys/fs/cgroup/system.slice/headlight.service/cpu.max", "250000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(2.5)));
}

TEST_F(CpuTopologyTest, TakesTheTightestGroupOnTheWayUpInV2) {
  root_.Write("proc/self/cgroup", "0::/kubepods/pod/container\n");
  root_.Write("sys/fs/cgroup/kubepods/pod/container/cpu.max", "400000 100000\n");
  root_.Write("sys/fs/cgroup/kubepods/pod/cpu.max", "150000 100000\n");
  root_.Write("sys/fs/cgroup/kubepods/cpu.max", "max 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(1.5)));
}

TEST_F(CpuTopologyTest, ReadsTheMountsRootInsideAContainer) {
  root_.Write("proc/self/cgroup", "0::/\n");
  root_.Write("sys/fs/cgroup/cpu.max", "300000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(3.0)));
}

TEST_F(CpuTopologyTest, FallsBackToTheMountsRootWhenItsGroupIsNotThere) {
  root_.Write("proc/self/cgroup", "0::/docker/0123456789\n");
  root_.Write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(0.5)));
}

TEST_F(CpuTopologyTest, DoesNotLeaveTheMountForAGroupOutsideItsNamespace) {
  root_.Write("proc/self/cgroup", "0::/../../other\n");
  root_.Write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  root_.Write("sys/other/cpu.max", "100000 100000\n");
  root_.Write("other/cpu.max", "100000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(2.0)));
}

TEST_F(CpuTopologyTest, MaxMeansNoQuotaInV2) {
  root_.Write("proc/self/cgroup", "0::/group\n");
  root_.Write("sys/fs/cgroup/group/cpu.max", "max 100000\n");
  EXPECT_THAT(Quota(), Eq(std::nullopt));
}

TEST_F(CpuTopologyTest, ReadsTheQuotaInV1) {
  root_.Write("proc/self/cgroup",
              "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n");
  root_.Write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "150000\n");
  root_.Write("sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "50000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(3.0)));
}

TEST_F(CpuTopologyTest, FindsAMountNamedAfterTheCpuControllerAlone) {
  root_.Write("proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n");
  root_.Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  root_.Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(1.0)));
}

TEST_F(CpuTopologyTest, MinusOneMeansNoQuotaInV1) {
  root_.Write("proc/self/cgroup", "4:cpu,cpuacct:/\n");
  root_.Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  root_.Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(Quota(), Eq(std::nullopt));
}

TEST_F(CpuTopologyTest, IgnoresOtherControllersInV1) {
  root_.Write("proc/self/cgroup", "4:cpuset:/\n3:cpuacct:/\n");
  root_.Write("sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "100000\n");
  root_.Write("sys/fs/cgroup/cpuset/cpu.cfs_period_us", "100000\n");
  EXPECT_THAT(Quota(), Eq(std::nullopt));
}

TEST_F(CpuTopologyTest, TakesTheTighterVersionOnHybridHosts) {
  root_.Write("proc/self/cgroup", "4:cpu,cpuacct:/a\n0::/b\n");
  root_.Write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "400000\n");
  root_.Write("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  root_.Write("sys/fs/cgroup/b/cpu.max", "200000 100000\n");
  EXPECT_THAT(Quota(), Optional(DoubleEq(2.0)));
}

TEST_F(CpuTopologyTest, UnreadableNumbersCountAsNoQuota) {
  root_.Write("proc/self/cgroup", "nonsense\n0::/a/b/c/d\n");
  root_.Write("sys/fs/cgroup/a/cpu.max", "");
  root_.Write("sys/fs/cgroup/a/b/cpu.max", "100000");
  root_.Write("sys/fs/cgroup/a/b/c/cpu.max", "100000 0");
  root_.Write("sys/fs/cgroup/a/b/c/d/cpu.max", "many 100000");
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

// Two cores of two CPUs each, and one more that is allowed half.
TEST_F(CpuTopologyTest, CountsThePhysicalCoresOfTheAllowedCpus) {
  for (const auto& [cpu, siblings] : {std::pair(0, "0,4"), std::pair(1, "1,5"), std::pair(2, "2,6"),
                                      std::pair(4, "0,4"), std::pair(5, "1,5"), std::pair(6, "2,6")}) {
    root_.Write(absl::StrCat("sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list"), siblings);
  }
  const CpuTopology topology = DetectCpuTopology(root_.path(), {0, 1, 4, 5, 6});
  EXPECT_EQ(topology.affinity_cpus, 5);
  EXPECT_EQ(topology.physical_cores, 3);
  EXPECT_EQ(topology.ComputeThreads(), 3);
  root_.Write("proc/self/cgroup", "0::/group\n");
  root_.Write("sys/fs/cgroup/group/cpu.max", "250000 100000\n");
  EXPECT_EQ(DetectCpuTopology(root_.path(), {0, 1, 4, 5, 6}).ComputeThreads(), 2) << "the quota is below";
}

TEST_F(CpuTopologyTest, WithoutATopologyEachCpuIsACore) {
  EXPECT_EQ(DetectCpuTopology(root_.path(), {0, 1, 2, 3}).ComputeThreads(), 4);
}

TEST(ComputeThreadsTest, IsOneForEachCoreWithoutAQuota) {
  EXPECT_EQ((CpuTopology{.affinity_cpus = 8, .physical_cores = 8}).ComputeThreads(), 8);
  EXPECT_EQ((CpuTopology{.affinity_cpus = 8, .physical_cores = 4}).ComputeThreads(), 4);
}

TEST(ComputeThreadsTest, RoundsTheQuotaDown) {
  EXPECT_EQ((CpuTopology{.affinity_cpus = 8, .physical_cores = 8, .quota_cpus = 2.9}).ComputeThreads(), 2);
}

TEST(ComputeThreadsTest, IsBoundedByTheCores) {
  EXPECT_EQ((CpuTopology{.affinity_cpus = 4, .physical_cores = 4, .quota_cpus = 1e12}).ComputeThreads(), 4);
  EXPECT_EQ((CpuTopology{.affinity_cpus = 8, .physical_cores = 4, .quota_cpus = 6.0}).ComputeThreads(), 4);
}

TEST(ComputeThreadsTest, IsAtLeastOne) {
  EXPECT_EQ((CpuTopology{.affinity_cpus = 4, .physical_cores = 4, .quota_cpus = 0.25}).ComputeThreads(), 1);
}

}  // namespace
}  // namespace headlight
