// SPDX-License-Identifier: Apache-2.0
//
// The fixture of tests that run once for each kernel of the table in each precision.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_
#define HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "core/attention/kernel.h"
#include "core/attention/multi_head_attention.h"
#include "core/runtime/compute_arena.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight::testing {

struct KernelParam {
  std::string kernel;
  Precision precision = Precision::kF32;
};

inline std::vector<KernelParam> KernelParams() {
  std::vector<KernelParam> params;
  for (const KernelEntry& entry : KernelTable()) {
    for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
      params.push_back({entry.name, precision});
    }
  }
  return params;
}

// For INSTANTIATE_TEST_SUITE_P: such as "avx512_fused_bf16".
inline std::string KernelTestName(const ::testing::TestParamInfo<KernelParam>& info) {
  std::string name = info.param.kernel + "_" + Name(info.param.precision);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

inline void PrintTo(const KernelParam& param, std::ostream* out) {
  *out << param.kernel << " in " << Name(param.precision);
}

// Skipped, with the kernel's own words, where the CPU or the build lacks it or it does not compute in the
// precision.
class KernelTest : public ::testing::TestWithParam<KernelParam> {
 protected:
  void SetUp() override {
    const AttentionConfig config = AttentionConfig{.embed_dim = 32, .num_heads = 2}.Resolved();
    const absl::StatusOr<MultiHeadAttention> plain = Create({config, RandomWeights(config, 1)});
    if (absl::IsUnimplemented(plain.status())) GTEST_SKIP() << plain.status();
    ASSERT_THAT(plain, IsOk());
    if (plain->precision() != precision()) GTEST_SKIP() << plain->precision_note();
  }

  Precision precision() const { return GetParam().precision; }
  bool is_f32() const { return precision() == Precision::kF32; }

  // In the precision of the parameter.
  absl::StatusOr<MultiHeadAttention> Create(const TestLayer& layer) const {
    AttentionConfig config = layer.config;
    config.precision = precision();
    return MultiHeadAttention::Create(config, layer.weights, GetParam().kernel);
  }

  absl::Status TryRun(const TestLayer& layer, TestBatch& batch) {
    const absl::StatusOr<MultiHeadAttention> attention = Create(layer);
    if (!attention.ok()) return attention.status();
    EXPECT_EQ(attention->precision(), precision()) << attention->precision_note();
    const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena_);
    return attention->Forward(batch.batch(), arena_, *workspace);
  }

  void Run(const TestLayer& layer, TestBatch& batch) { ASSERT_THAT(TryRun(layer, batch), IsOk()); }

  ComputeArena arena_{2};
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_
