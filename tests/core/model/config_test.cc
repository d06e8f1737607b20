// SPDX-License-Identifier: Apache-2.0
#include "core/model/config.h"

#include <gtest/gtest.h>

#include <limits>

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
}

}  // namespace
}  // namespace headlight
