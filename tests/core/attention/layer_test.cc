// SPDX-License-Identifier: Apache-2.0
#include "core/attention/layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "tests/core/testing/expect_near.h"
#include "tests/core/testing/test_problem.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using testing::ExpectNearReference;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::MakeRng;
using testing::RandomInputs;
using testing::Rng;
using ::testing::StartsWith;
using testing::StatusIs;
using testing::TestBatch;
using testing::TestLayer;
using testing::TestSequence;

TestLayer SmallLayer() {
  const AttentionConfig config = AttentionConfig{.embed_dim = 32, .num_heads = 2}.Resolved();
  return {config, RandomParameters(config, 1)};
}

TEST(AttentionLayerTest, ResolvesTheConfigAndCountsParameters) {
  const AttentionConfig config = {.embed_dim = 32, .num_heads = 2};
  const auto attention = AttentionLayer::Create(config, RandomParameters(config.Resolved(), 1));
  ASSERT_THAT(attention, IsOk());
  EXPECT_EQ(attention->config().head_dim, 16);
  EXPECT_EQ(attention->num_parameters(), 4 * (32 * 32 + 32));
}

TEST(AttentionLayerTest, TakesTheFirstKernelThatAccepts) {
  const TestLayer layer = SmallLayer();
  const auto attention = AttentionLayer::Create(layer.config, layer.weights);
  ASSERT_THAT(attention, IsOk());
  for (const ProductKind& kind : ProductKinds()) {
    if (!kind.Accepts(layer.config.precision).ok() || !kind.Pays(layer.config.precision).ok()) continue;
    EXPECT_EQ(attention->kernel_name(), kind.name);
    break;
  }
}

TEST(AttentionLayerTest, TakesTheKernelAskedFor) {
  const TestLayer layer = SmallLayer();
  const auto attention = AttentionLayer::Create(layer.config, layer.weights, "matmul");
  ASSERT_THAT(attention, IsOk());
  EXPECT_EQ(attention->kernel_name(), "matmul");
}

TEST(AttentionLayerTest, ListsTheKernelsForAnUnknownName) {
  const TestLayer layer = SmallLayer();
  const absl::Status status = AttentionLayer::Create(layer.config, layer.weights, "fastest").status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'fastest'")));
  for (const ProductKind& kind : ProductKinds()) {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(kind.name)));
  }
}

// What no kernel refuses here some kernel may refuse elsewhere: each entry is taken at its word.
TEST(AttentionLayerTest, PassesOnTheRefusalOfTheKernelAskedFor) {
  const TestLayer layer = SmallLayer();
  for (const ProductKind& kind : ProductKinds()) {
    const absl::Status accepted = kind.Accepts(layer.config.precision);
    const auto attention = AttentionLayer::Create(layer.config, layer.weights, kind.name);
    if (accepted.ok()) {
      ASSERT_THAT(attention, IsOk());
      EXPECT_EQ(attention->kernel_name(), kind.name);
    } else {
      EXPECT_THAT(attention.status(),
                  StatusIs(absl::StatusCode::kUnimplemented,
                           AllOf(HasSubstr(kind.name), HasSubstr(std::string(accepted.message())))));
    }
  }
}

TEST(AttentionLayerTest, ComputesInF32WithoutANote) {
  const TestLayer layer = SmallLayer();
  const auto attention = AttentionLayer::Create(layer.config, layer.weights);
  ASSERT_THAT(attention, IsOk());
  EXPECT_EQ(attention->precision(), Precision::kF32);
  EXPECT_EQ(attention->precision_note(), "");
}

// Where the CPU has no fast way to the precision asked for, f32 stands in and says so. With
// ONEDNN_MAX_CPU_ISA=AVX2, as this test runs too, no CPU has.
TEST(AttentionLayerTest, ComputesInThePrecisionAskedForOrSaysWhyNot) {
  for (const Precision precision : {Precision::kBf16, Precision::kInt8}) {
    SCOPED_TRACE(Name(precision));
    TestLayer layer = SmallLayer();
    layer.config.precision = precision;
    const auto attention = AttentionLayer::Create(layer.config, layer.weights);
    ASSERT_THAT(attention, IsOk());
    EXPECT_EQ(attention->config().precision, precision) << "what was asked for";
    if (attention->precision() == precision) {
      EXPECT_EQ(attention->precision_note(), "");
    } else {
      EXPECT_EQ(attention->precision(), Precision::kF32);
      EXPECT_THAT(attention->precision_note(), StartsWith("computed in f32: "));
      for (const ProductKind& kind : ProductKinds()) {
        absl::Status refusal = kind.Accepts(layer.config.precision);
        if (refusal.ok()) refusal = kind.Pays(layer.config.precision);
        EXPECT_THAT(attention->precision_note(), HasSubstr(std::string(refusal.message()))) << kind.name;
      }
    }
    const char* max_isa = std::getenv("ONEDNN_MAX_CPU_ISA");
    const bool limited_to_avx2 = max_isa != nullptr && std::string(max_isa) == "AVX2";
    EXPECT_FALSE(limited_to_avx2 && attention->precision() == precision);

    Rng rng = MakeRng(0);
    const TestSequence sequence = RandomInputs(rng, layer.config, 10, 20);
    TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
    ComputeArena arena(1);
    ASSERT_THAT(attention->Forward(batch.batch(), arena, *attention->NewWorkspace(arena)), IsOk());
    ExpectNearReference(layer, batch, attention->precision());
  }
}

// Naming a kernel overrules what pays, not what is possible.
TEST(AttentionLayerTest, AKernelAskedForComputesInAPrecisionThatDoesNotPay) {
  TestLayer layer = SmallLayer();
  layer.config.precision = Precision::kBf16;
  for (const ProductKind& kind : ProductKinds()) {
    if (!kind.Accepts(layer.config.precision).ok()) continue;
    const auto attention = AttentionLayer::Create(layer.config, layer.weights, kind.name);
    ASSERT_THAT(attention, IsOk());
    EXPECT_EQ(attention->precision(), Precision::kBf16) << kind.name;
    EXPECT_EQ(attention->precision_note(), "") << kind.name;
  }
}

TEST(AttentionLayerTest, RefusesAWrongConfig) {
  const TestLayer layer = SmallLayer();
  EXPECT_THAT(AttentionLayer::Create({.embed_dim = 32, .num_heads = 0}, layer.weights),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("num_heads")));
}

TEST(AttentionLayerTest, RefusesWeightsOfAnotherLayer) {
  TestLayer layer = SmallLayer();
  layer.weights.wo.pop_back();
  EXPECT_THAT(AttentionLayer::Create(layer.config, layer.weights),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wo: got 1023 elements")));
}

TEST(AttentionLayerTest, AttendsWithAnOrdinaryLayer) {
  const TestLayer layer = SmallLayer();
  const auto attention = AttentionLayer::Create(layer.config, layer.weights);
  ASSERT_THAT(attention, IsOk());
  Rng rng = MakeRng(0);
  const TestSequence sequence = RandomInputs(rng, layer.config, 10, 20);
  TestBatch batch(layer.config, {&sequence}, WeightsSink::Mode::kFull);
  ComputeArena arena(1);
  const std::unique_ptr<Workspace> workspace = attention->NewWorkspace(arena);
  ASSERT_THAT(attention->Forward(batch.batch(), arena, *workspace), IsOk());
  ExpectNearReference(layer, batch);
}

}  // namespace
}  // namespace headlight
