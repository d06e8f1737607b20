// SPDX-License-Identifier: Apache-2.0
//
// The fixture of tests that run once for each kernel of the table in each precision.
#ifndef HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_
#define HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "core/attention/layer.h"
#include "core/product/arithmetic.h"
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
  for (const ProductKind& kind : ProductKinds()) {
    for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
      params.push_back({kind.name, precision});
    }
  }
  return params;
}

// Such as "avx512_fused_bf16".
inline std::string KernelName(const KernelParam& param) {
  std::string name = param.kernel + "_" + Name(param.precision);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// For INSTANTIATE_TEST_SUITE_P.
inline std::string KernelTestName(const ::testing::TestParamInfo<KernelParam>& info) {
  return KernelName(info.param);
}

inline void PrintTo(const KernelParam& param, std::ostream* out) {
  *out << param.kernel << " in " << Name(param.precision);
}

// Skipped, with the kernel's own words, where the CPU or the build lacks it or it does not compute in the
// precision.
class KernelTest : public ::testing::TestWithParam<KernelParam> {
 protected:
  void SetUp() override {
    const std::string refusal = Refusal();
    if (!refusal.empty()) GTEST_SKIP() << refusal;
  }

  Precision precision() const { return GetParam().precision; }
  bool is_f32() const { return precision() == Precision::kF32; }

  // In the precision of the parameter.
  absl::StatusOr<AttentionLayer> Create(const TestLayer& layer) const {
    AttentionConfig config = layer.config;
    config.precision = precision();
    return AttentionLayer::Create(config, layer.weights, GetParam().kernel);
  }

  absl::Status TryRun(const TestLayer& layer, TestBatch& batch) {
    const absl::StatusOr<AttentionLayer> attention = Create(layer);
    if (!attention.ok()) return attention.status();
    EXPECT_EQ(attention->precision(), precision()) << attention->precision_note();
    const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena_);
    return attention->Forward(batch.batch(), arena_, *workspace);
  }

  void Run(const TestLayer& layer, TestBatch& batch) { ASSERT_THAT(TryRun(layer, batch), IsOk()); }

  // Place of the parameter among all.
  static int Place() {
    const std::vector<KernelParam> params = KernelParams();
    const auto is_ours = [](const KernelParam& param) { return KernelName(param) == KernelName(GetParam()); };
    return static_cast<int>(std::find_if(params.begin(), params.end(), is_ours) - params.begin());
  }

  // Different from that of other parameters, so that together they draw more problems.
  static Rng MakeRng(int index) { return testing::MakeRng(index + 1000 * Place()); }

  ComputeArena arena_{2};

 private:
  // Why there is no such kernel here, as it says itself; asked once, since a kernel takes a while to make.
  std::string Refusal() const {
    static std::map<std::string, std::string> refusals;
    const auto [entry, is_new] = refusals.try_emplace(KernelName(GetParam()));
    if (!is_new) return entry->second;
    const AttentionConfig config = AttentionConfig{.embed_dim = 32, .num_heads = 2}.Resolved();
    const absl::StatusOr<AttentionLayer> plain = Create({config, RandomParameters(config, 1)});
    if (absl::IsUnimplemented(plain.status())) {
      entry->second = std::string(plain.status().message());
    } else if (!plain.ok()) {
      ADD_FAILURE() << plain.status();
    } else if (plain->precision() != precision()) {
      entry->second = plain->precision_note();
    }
    return entry->second;
  }
};

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CORE_TESTING_KERNEL_FIXTURE_H_
