// SPDX-License-Identifier: Apache-2.0
//
// What it says before loading is held against what loading takes in load_memory_test.cc; here, what it
// depends on.
#include "core/checkpoint/memory_estimate.h"

#include <gtest/gtest.h>

#include "core/model/model.h"
#include "tests/core/model/test_model.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

ModelConfig EstimatedConfig() {
  ModelConfig config;
  config.block.attention = {.embed_dim = 128, .num_heads = 4};
  config.block.norm_placement = NormPlacement::kPost;
  config.block.feed_forward.hidden_dim = 512;
  config.num_layers = 2;
  config.embedding = {.vocab_size = 5000, .num_positions = 128, .norm = true};
  return config.Resolved();
}

TEST(EstimateMemoryTest, IsWhatAModelTakesOrALittleMore) {
  ModelConfig config = EstimatedConfig();
  for (const Precision precision : {Precision::kF32, Precision::kBf16, Precision::kInt8}) {
    config.block.attention.precision = precision;
    const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
    ASSERT_THAT(model, testing::IsOk());
    const MemoryEstimate estimate = EstimateMemory(config);
    EXPECT_GE(estimate.packed_bytes, model->packed_bytes()) << Name(precision);
    EXPECT_LE(estimate.packed_bytes, model->packed_bytes() * 5 / 4) << Name(precision);
  }
}

// Nothing of them is held in f32.
TEST(EstimateMemoryTest, NarrowParametersTakeTheirBytes) {
  ModelConfig config = EstimatedConfig();
  config.block.attention = {.embed_dim = 512, .num_heads = 8};
  config.block.feed_forward.hidden_dim = 2048;
  config = config.Resolved();
  config.embedding.reset();
  const double wide = static_cast<double>(EstimateMemory(config).packed_bytes);
  for (const Precision held : {Precision::kBf16, Precision::kInt8}) {
    config.SetParametersPrecision(held);
    const absl::StatusOr<Model> model = Model::Create(config, RandomModelParameters(config, 1));
    ASSERT_THAT(model, testing::IsOk());
    const MemoryEstimate estimate = EstimateMemory(config);
    EXPECT_GE(estimate.packed_bytes, model->packed_bytes()) << Name(held);
    EXPECT_LE(estimate.packed_bytes, model->packed_bytes() * 5 / 4) << Name(held);
    EXPECT_NEAR(static_cast<double>(estimate.packed_bytes) / wide,
                static_cast<double>(BytesPerWeight(held)) / 4, 0.06);
  }
}

// 8 MiB in f32, so that blocks of huge pages round nothing up.
TEST(EstimateMemoryTest, NarrowTablesTakeHalf) {
  ModelConfig config = EstimatedConfig();
  config.embedding = {.vocab_size = 16384};
  const int64_t wide = EstimateMemory(config).packed_bytes;
  for (const DType dtype : {DType::kF16, DType::kBf16}) {
    EXPECT_EQ(wide - EstimateMemory(config, dtype).packed_bytes, int64_t{4} << 20) << Name(dtype);
  }
}

TEST(EstimateMemoryTest, ThePeakIsAboveWhatIsKept) {
  const MemoryEstimate estimate = EstimateMemory(EstimatedConfig());
  EXPECT_GT(estimate.peak_bytes, estimate.packed_bytes);
}

// Of attention alone, whose layers have blocks of their own.
TEST(EstimateMemoryTest, EachLayerTakesTheSame) {
  ModelConfig config;
  config.block.attention = {.embed_dim = 128, .num_heads = 4};
  const auto packed = [&](int64_t layers) {
    config.num_layers = layers;
    return EstimateMemory(config).packed_bytes;
  };
  EXPECT_GE(packed(2) - packed(1), 4 * 128 * 128 * BytesPerWeight(Precision::kF32));
  EXPECT_EQ(packed(12) - packed(11), packed(2) - packed(1));
}

TEST(EstimateMemoryTest, HeadsAndStepsOfPooledVectorsCount) {
  ModelConfig config = testing::SmallEncoder();
  const int64_t width = config.block.attention.embed_dim;
  const auto dense = [&](int64_t out) { return RowStep{.in_dim = width, .out_dim = out}; };
  const int64_t without = EstimateMemory(config).packed_bytes;
  config.pooled_steps = {dense(700)};
  config.heads.heads = {
      {.kind = HeadKind::kScores, .steps = {dense(width)}, .silent_ids = {}},
      {.kind = HeadKind::kLanguageModel, .steps = {dense(300)}, .vocab_size = 1000, .silent_ids = {}}};
  const ModelConfig resolved = config.Resolved();
  const auto model = Model::Create(resolved, RandomModelParameters(resolved, 1));
  ASSERT_THAT(model, testing::IsOk());
  const MemoryEstimate estimate = EstimateMemory(config);
  const int64_t least = 4 * (width * (700 + width + 300) + 1000 * 300);
  EXPECT_GE(estimate.packed_bytes - without, least);
  EXPECT_GE(estimate.packed_bytes, model->packed_bytes());
  EXPECT_LE(estimate.packed_bytes - without, least + least / 4 + (int64_t{64} << 10));
}

}  // namespace
}  // namespace headlight
