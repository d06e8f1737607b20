// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "core/product/parameter_panels.h"
#include "core/runtime/numa.h"
#include "core/tensor/buffer.h"
#include "tests/core/testing/memory_policy.h"

namespace headlight {
namespace {

constexpr int64_t kBytes = int64_t{4} << 20;

TEST(PanelStorageTest, HandsOutWholeCacheLinesOneAfterTheOther) {
  PanelStorage storage(1000);
  EXPECT_GE(storage.size_bytes(), 1000);
  std::byte* const first = storage.Take(1);
  std::byte* const second = storage.Take(65);
  std::byte* const third = storage.Take(64);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % kCacheLineBytes, 0u);
  EXPECT_EQ(second - first, 64);
  EXPECT_EQ(third - second, 128);
}

// A second node that the machine does not have stands for one that it has.
TEST(PanelStorageTest, LiesOnAllNodesInTurn) {
  const std::vector<int> nodes = NumaNodes();
  const Buffer other = Buffer::Allocate(kBytes);
  if (nodes.empty() || !InterleaveMemory(other.bytes(), kBytes, {nodes[0], nodes[0] + 1})) {
    GTEST_SKIP() << "the kernel does not let this process place memory";
  }
  PanelStorage storage(kBytes, {nodes[0], nodes[0] + 1});
  std::byte* const panels = storage.Take(kBytes);
  EXPECT_TRUE(testing::IsInterleaved(panels, nodes[0]));
  EXPECT_TRUE(testing::IsInterleaved(panels + kBytes - 1, nodes[0]));
  std::memset(panels, 1, kBytes);
}

TEST(PanelStorageTest, OnOneNodeItLiesWhereItIsWritten) {
  PanelStorage storage(kBytes, {0});
  EXPECT_FALSE(testing::IsInterleaved(storage.Take(kBytes), 0));
}

}  // namespace
}  // namespace headlight
