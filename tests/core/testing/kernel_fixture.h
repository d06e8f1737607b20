// SPDX-License-Identifier: Apache-2.0
//
// The fixture of tests that run once for each kernel of the table.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_
#define HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/attention/kernel.h"
#include "core/attention/multi_head_attention.h"
#include "core/runtime/compute_arena.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight::testing {

inline std::vector<std::string> KernelNames() {
  std::vector<std::string> names;
  for (const KernelEntry& entry : KernelTable()) names.emplace_back(entry.name);
  return names;
}

// For INSTANTIATE_TEST_SUITE_P: the kernel's name as an identifier.
inline std::string KernelTestName(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// The parameter is the kernel's name. Skipped, with the kernel's own words, where the CPU or the build lacks
// it.
class KernelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    Rng rng = MakeRng(0);
    const absl::Status plain_layer = Create(RandomLayer(rng, 16)).status();
    if (absl::IsUnimplemented(plain_layer)) GTEST_SKIP() << plain_layer;
    ASSERT_THAT(plain_layer, IsOk());
  }

  absl::StatusOr<MultiHeadAttention> Create(const TestLayer& layer) const {
    return MultiHeadAttention::Create(layer.config, layer.weights, GetParam());
  }

  absl::Status TryRun(const TestLayer& layer, TestBatch& batch) {
    const absl::StatusOr<MultiHeadAttention> attention = Create(layer);
    if (!attention.ok()) return attention.status();
    const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena_);
    return attention->Forward(batch.batch(), arena_, *workspace);
  }

  void Run(const TestLayer& layer, TestBatch& batch) { ASSERT_THAT(TryRun(layer, batch), IsOk()); }

  ComputeArena arena_{2};
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_
