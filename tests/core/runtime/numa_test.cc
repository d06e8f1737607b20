// SPDX-License-Identifier: Apache-2.0
#include "core/runtime/numa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/buffer.h"
#include "tests/core/testing/memory_policy.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class NumaNodesTest : public ::testing::Test {
 protected:
  void SetNode(int node, const std::string& cpus) const {
    root_.Write(absl::StrCat("sys/devices/system/node/node", node, "/cpulist"), cpus);
  }
  std::vector<int> Nodes(const std::vector<int>& cpus) const { return NumaNodes(cpus, root_.path()); }

  const testing::TempFolder root_;  // stands for "/"
};

TEST_F(NumaNodesTest, AreThoseOfTheAllowedCpus) {
  SetNode(0, "0-3,8-11\n");
  SetNode(1, "4-7,12-15\n");
  SetNode(10, "16-19\n");
  SetNode(11, "\n");  // memory without CPUs
  root_.Write("sys/devices/system/node/possible", "0-11\n");
  root_.Write("sys/devices/system/node/nodes/cpulist", "0\n");
  EXPECT_THAT(Nodes({0, 1, 12, 17}), ElementsAre(0, 1, 10));
  EXPECT_THAT(Nodes({8, 9}), ElementsAre(0));
  EXPECT_THAT(Nodes({40}), IsEmpty());
}

TEST_F(NumaNodesTest, WhatCannotBeReadIsNone) {
  EXPECT_THAT(Nodes({0}), IsEmpty());
  SetNode(0, "nonsense");
  SetNode(1, "0-1\n");
  EXPECT_THAT(Nodes({0}), ElementsAre(1));
}

const void* At(std::uintptr_t address) { return reinterpret_cast<const void*>(address); }

TEST(PagesToInterleaveTest, AreTheWholePagesInside) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  const std::optional<PageRange> aligned = PagesToInterleave(At(16 * page), 3 * page, {0, 1});
  ASSERT_TRUE(aligned.has_value());
  EXPECT_EQ(aligned->begin, 16u * page);
  EXPECT_EQ(aligned->size_bytes, 3 * page);
  const std::optional<PageRange> crooked = PagesToInterleave(At(16 * page + 64), 3 * page, {0, 1});
  ASSERT_TRUE(crooked.has_value());
  EXPECT_EQ(crooked->begin, 17u * page);
  EXPECT_EQ(crooked->size_bytes, 2 * page);
  EXPECT_FALSE(PagesToInterleave(At(16 * page + 64), page, {0, 1}).has_value());
  EXPECT_FALSE(PagesToInterleave(At(16 * page), 0, {0, 1}).has_value());
}

TEST(PagesToInterleaveTest, HaveABitForEachNode) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  EXPECT_THAT(PagesToInterleave(At(page), page, {0, 1})->node_mask, ElementsAre(3ul));
  EXPECT_THAT(PagesToInterleave(At(page), page, {1, 3, 64})->node_mask, ElementsAre(10ul, 1ul));
}

TEST(PagesToInterleaveTest, AreNoneOnOneNode) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  EXPECT_FALSE(PagesToInterleave(At(page), page, {}).has_value());
  EXPECT_FALSE(PagesToInterleave(At(page), page, {1}).has_value());
}

// Nodes that the machine does not have the kernel passes over.
TEST(InterleaveMemoryTest, TheKernelHasItSo) {
  const Buffer buffer = Buffer::Allocate(int64_t{4} << 20);
  ASSERT_TRUE(buffer.ok());
  const std::vector<int> nodes = NumaNodes();
  if (nodes.empty() || !InterleaveMemory(buffer.bytes(), buffer.size_bytes(), {nodes[0], nodes[0] + 1})) {
    GTEST_SKIP() << "the kernel does not let this process place memory";
  }
  EXPECT_TRUE(testing::IsInterleaved(buffer.bytes(), nodes[0]));
  std::memset(buffer.bytes(), 1, buffer.size_bytes());
}

TEST(InterleaveMemoryTest, OnOneNodeNothingIsBound) {
  const Buffer buffer = Buffer::Allocate(int64_t{4} << 20);
  EXPECT_FALSE(InterleaveMemory(buffer.bytes(), buffer.size_bytes(), {0}));
}

TEST(InterleaveMemoryTest, NodesThatAreNotThereChangeNothing) {
  const Buffer buffer = Buffer::Allocate(int64_t{4} << 20);
  EXPECT_FALSE(InterleaveMemory(buffer.bytes(), buffer.size_bytes(), {900, 901}));
  std::memset(buffer.bytes(), 1, buffer.size_bytes());
}

}  // namespace
}  // namespace headlight
