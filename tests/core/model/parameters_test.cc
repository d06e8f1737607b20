// SPDX-License-Identifier: Apache-2.0
#include "core/model/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "tests/core/model/test_model.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::SmallEncoder;
using testing::StatusIs;

constexpr auto kInvalidParameters = absl::StatusCode::kInvalidArgument;

TEST(ModelParametersTest, RandomOnesFitAndRepeat) {
  for (const auto& [name, plain] : testing::ModelConfigs()) {
    const ModelConfig config = plain.Resolved();
    const ModelParameters weights = RandomModelParameters(config, 3);
    EXPECT_THAT(weights.Validate(config), IsOk()) << name;
    EXPECT_EQ(RandomModelParameters(config, 3).layers[0].attention.wq, weights.layers[0].attention.wq);
    EXPECT_NE(RandomModelParameters(config, 4).layers[0].attention.wq, weights.layers[0].attention.wq);
  }
}

TEST(ModelParametersTest, NamesTheTensorThatDoesNotFit) {
  const ModelConfig config = SmallEncoder().Resolved();
  const auto refused = [&](const char* message, const auto& change) {
    ModelParameters weights = RandomModelParameters(config, 1);
    change(weights);
    EXPECT_THAT(weights.Validate(config), StatusIs(kInvalidParameters, HasSubstr(message)));
  };
  refused("layers: got 1, wanted num_layers 2", [](ModelParameters& w) { w.layers.pop_back(); });
  refused("layers.1.feed_forward.up: got 5 elements, wanted 19200 of shape [96, 200]",
          [](ModelParameters& w) { w.layers[1].feed_forward.up.resize(5); });
  refused("layers.0.feed_forward.gate: got 1",
          [](ModelParameters& w) { w.layers[0].feed_forward.gate = {1}; });
  refused("layers.0.attention.wq", [](ModelParameters& w) { w.layers[0].attention.wq.pop_back(); });
  refused("layers.0.attention_norm.gain",
          [](ModelParameters& w) { w.layers[0].attention_norm.gain.clear(); });
  refused("embedding.tokens", [](ModelParameters& w) { w.embedding.tokens.pop_back(); });
  refused("embedding.norm.gain", [](ModelParameters& w) { w.embedding.norm.gain.clear(); });
}

TEST(ModelParametersTest, EachLayerIsCheckedAsItsOwnBlock) {
  const ModelConfig local = testing::LocalAndGlobalLayers().Resolved();
  ModelParameters weights = RandomModelParameters(local, 1);
  EXPECT_THAT(weights.layers[0].attention_norm.gain, ::testing::IsEmpty());
  weights.layers[0].attention_norm = weights.layers[1].attention_norm;
  EXPECT_THAT(
      weights.Validate(local),
      StatusIs(kInvalidParameters, HasSubstr("layers.0.attention_norm.gain: got 64 elements, wanted 0")));
  const ModelConfig shapes = testing::LayersOfManyShapes().Resolved();
  weights = RandomModelParameters(shapes, 1);
  std::swap(weights.layers[0], weights.layers[1]);
  EXPECT_THAT(weights.Validate(shapes), StatusIs(kInvalidParameters, HasSubstr("layers.0.attention.")));
}

}  // namespace
}  // namespace headlight
