// SPDX-License-Identifier: Apache-2.0
#include "core/model/config.h"

#include <gtest/gtest.h>

#include <limits>
#include <optional>

#include "tests/core/model/test_model.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::SmallEncoder;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(ModelConfigTest, TakesEveryKindOfModel) {
  for (const auto& [name, config] : testing::ModelConfigs()) EXPECT_THAT(config.Validate(), IsOk()) << name;
}

TEST(ModelConfigTest, NamesTheFieldThatIsWrong) {
  const auto refused = [](const char* message, const auto& change) {
    ModelConfig config = SmallEncoder();
    change(config);
    EXPECT_THAT(config.Validate(), StatusIs(kInvalid, HasSubstr(message)));
  };
  refused("num_layers: got 0", [](ModelConfig& c) { c.num_layers = 0; });
  refused("attention.embed_dim: got 0", [](ModelConfig& c) { c.block.attention.embed_dim = 0; });
  refused("attention.kdim: got 95, wanted embed_dim 96", [](ModelConfig& c) { c.block.attention.kdim = 95; });
  refused("attention.vdim: got 95", [](ModelConfig& c) { c.block.attention.vdim = 95; });
  refused("norm_eps: got nan",
          [](ModelConfig& c) { c.block.norm_eps = std::numeric_limits<double>::quiet_NaN(); });
  refused("norm_eps: got -1", [](ModelConfig& c) { c.block.norm_eps = -1; });
  refused("feed_forward.hidden_dim: got 0", [](ModelConfig& c) { c.block.feed_forward.hidden_dim = 0; });
  refused("embedding.vocab_size: got 0", [](ModelConfig& c) { c.embedding->vocab_size = 0; });
  refused("embedding.position_offset: got 400", [](ModelConfig& c) { c.embedding->position_offset = 400; });
  refused("embedding.padding_id: got 400", [](ModelConfig& c) { c.embedding->padding_id = 400; });
  refused("embedding.num_positions: got 0", [](ModelConfig& c) {
    c.embedding->num_positions = 0;
    c.embedding->position_offset = 2;
  });
}

TEST(ModelConfigTest, NamesWhatLayersDoNotAgreeOn) {
  const auto refused = [](const char* message, const auto& change) {
    ModelConfig config = testing::LocalAndGlobalLayers();
    change(config, config.other_blocks[1]);
    EXPECT_THAT(config.Validate(), StatusIs(kInvalid, HasSubstr(message)));
  };
  refused("other_blocks[1].attention.num_heads: got 0",
          [](ModelConfig&, BlockConfig& b) { b.attention.num_heads = 0; });
  refused("other_blocks[1].feed_forward.hidden_dim: got 0",
          [](ModelConfig&, BlockConfig& b) { b.feed_forward.hidden_dim = 0; });
  refused("other_blocks[1].attention.embed_dim: got 32, wanted 64, as block has it",
          [](ModelConfig&, BlockConfig& b) { b.attention.embed_dim = 32; });
  refused("other_blocks[1].attention.kdim: got 32, wanted embed_dim 64",
          [](ModelConfig&, BlockConfig& b) { b.attention.kdim = 32; });
  refused("other_blocks[1].attention.precision: got bf16, wanted f32",
          [](ModelConfig&, BlockConfig& b) { b.attention.precision = Precision::kBf16; });
  refused("other_blocks[1].attention.parameters_precision: got bf16, wanted f32",
          [](ModelConfig&, BlockConfig& b) { b.attention.parameters_precision = Precision::kBf16; });
  refused("other_blocks[1].attention.add_bias_kv: got ",
          [](ModelConfig&, BlockConfig& b) { b.attention.add_bias_kv = true; });
  refused("other_blocks[1].attention.add_zero_attn: got ",
          [](ModelConfig&, BlockConfig& b) { b.attention.add_zero_attn = true; });
  refused("other_blocks[1].norm_placement: got post, wanted pre", [](ModelConfig&, BlockConfig& b) {
    b.norm_placement = NormPlacement::kPost;
    b.attention_norm = true;
  });
  refused("other_blocks[1].attention_norm: got false, wanted true unless norm_placement is pre",
          [](ModelConfig&, BlockConfig& b) { b.norm_placement = NormPlacement::kPost; });
  refused("layer_blocks: got 2, wanted num_layers 3",
          [](ModelConfig& c, BlockConfig&) { c.layer_blocks.pop_back(); });
  refused("layer_blocks[2]: got 3", [](ModelConfig& c, BlockConfig&) { c.layer_blocks[2] = 3; });
  refused("layer_blocks[0]: got -1", [](ModelConfig& c, BlockConfig&) { c.layer_blocks[0] = -1; });
}

TEST(ModelConfigTest, ALayerIsTheBlockThatItsEntrySays) {
  const ModelConfig config = testing::LocalAndGlobalLayers().Resolved();
  EXPECT_FALSE(config.LayerBlock(0).attention_norm);
  EXPECT_EQ(config.LayerAttention(0).rope->theta, 1e6);
  EXPECT_EQ(config.LayerAttention(1).rope->theta, 1e4);
  EXPECT_EQ(config.LayerAttention(1).window_left, 8);
  EXPECT_EQ(config.LayerAttention(2).window_left, std::nullopt);
  EXPECT_EQ(config.LayerAttention(2).rope->rotary_dim, 16) << "resolved";
  EXPECT_TRUE(config.LayersAgreeOnHeads());
  EXPECT_FALSE(testing::LayersOfManyShapes().LayersAgreeOnHeads());
  ModelConfig without = config;
  without.layer_blocks.clear();
  EXPECT_THAT(without.Validate(), IsOk());
  EXPECT_EQ(&without.LayerBlock(2), &without.block);
}

TEST(ModelConfigTest, BlocksThatNoLayerIsDoNotCount) {
  ModelConfig config = testing::LayersOfManyShapes().Resolved();
  EXPECT_EQ(config.LargestDepth(), 200);
  config.layer_blocks = {0, 0, 0};
  EXPECT_EQ(config.LargestDepth(), 70);
  config.SetPrecision(Precision::kInt8);
  EXPECT_THAT(config.Validate(), IsOk());
}

TEST(ModelConfigTest, DividesTheScoresOfLaterLayers) {
  ModelConfig config = SmallEncoder();
  config.scale_by_inverse_layer = true;
  config.block.attention.scale = 0.5;
  config = config.Resolved();
  EXPECT_EQ(config.LayerAttention(0).scale, 0.5);
  EXPECT_EQ(config.LayerAttention(3).scale, 0.125);
}

TEST(ModelConfigTest, CountsTheProductsOfAToken) {
  const ModelConfig config = SmallEncoder().Resolved();
  EXPECT_EQ(ProjectionFlopsPerToken(config), 2 * 2 * (4 * 96 * 96 + 2 * 96 * 200));
  ModelConfig gated = config;
  gated.block.feed_forward.gated = true;
  EXPECT_EQ(ProjectionFlopsPerToken(gated), 2 * 2 * (4 * 96 * 96 + 3 * 96 * 200));
  EXPECT_EQ(ProjectionFlopsPerToken(testing::LayersOfManyShapes().Resolved()),
            2 * (4 * 64 * 64 + 2 * 64 * 70) + 2 * 2 * (2 * 64 * (144 + 48) + 3 * 64 * 200));
}

}  // namespace
}  // namespace headlight
