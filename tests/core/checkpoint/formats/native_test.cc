// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/native.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/core/model/test_model.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::Contains;
using testing::CountedFrom;
using testing::FormatFolder;
using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Key;
using ::testing::Not;
using testing::StatusIs;

constexpr char kNativeConfig[] =
    R"({"embed_dim": 4, "num_heads": 2, "num_kv_heads": 1, "num_layers": 1, "norm_placement": "pre",
        "norm_kind": "rms_norm", "hidden_dim": 6, "gated": true, "precision": "int8",
        "embedding": {"vocab_size": 5}})";

void AddNative(FormatFolder& folder) {
  folder.Add("embedding.tokens", {5, 4}, 1000);
  folder.Add("layers.0.attention.wq", {4, 4}, 100);
  folder.Add("layers.0.attention.wk", {4, 2}, 200);
  folder.Add("layers.0.attention.wv", {4, 2}, 300);
  folder.Add("layers.0.attention.wo", {4, 4}, 400);
  folder.Add("layers.0.attention_norm.gain", {4}, 10);
  folder.Add("layers.0.feed_forward_norm.gain", {4}, 20);
  folder.Add("layers.0.feed_forward.up", {4, 6}, 500);
  folder.Add("layers.0.feed_forward.gate", {4, 6}, 600);
  folder.Add("layers.0.feed_forward.down", {6, 4}, 700);
}

TEST(NativeTest, MatricesAreTakenAsTheyAre) {
  FormatFolder folder;
  AddNative(folder);
  const auto model = folder.Read(ReadNative, kNativeConfig);
  ASSERT_THAT(model, IsOk());
  const BlockParameters& block = model->parameters.layers[0];
  EXPECT_EQ(block.attention.wq, CountedFrom(100, 16));
  EXPECT_EQ(block.attention.wk, CountedFrom(200, 8));
  EXPECT_EQ(block.attention.wv, CountedFrom(300, 8));
  EXPECT_EQ(block.attention.wo, CountedFrom(400, 16));
  EXPECT_EQ(block.feed_forward.up, CountedFrom(500, 24));
  EXPECT_EQ(block.feed_forward.gate, CountedFrom(600, 24));
  EXPECT_EQ(block.feed_forward.down, CountedFrom(700, 24));
  EXPECT_EQ(block.attention_norm.gain, CountedFrom(10, 4));
  EXPECT_EQ(block.feed_forward_norm.gain, CountedFrom(20, 4));
  EXPECT_EQ(model->parameters.embedding.tokens, CountedFrom(1000, 20));
  EXPECT_EQ(model->precision, Precision::kInt8);
}

TEST(NativeTest, ABiasMayBeAbsentAndAMatrixMayNot) {
  FormatFolder folder;
  AddNative(folder);
  folder.Add("layers.0.attention.bk", {2}, 7);
  const auto model = folder.Read(ReadNative, kNativeConfig);
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->parameters.layers[0].attention.bk, CountedFrom(7, 2));
  EXPECT_TRUE(model->parameters.layers[0].attention.bq.empty());
  folder.Remove("layers.0.attention.wk");
  EXPECT_THAT(folder.Read(ReadNative, kNativeConfig),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("missing: layers.0.attention.wk, expected [4, 2]")));
}

TEST(NativeTest, NothingIsLeftAside) {
  FormatFolder folder;
  AddNative(folder);
  folder.Add("pooler.dense.weight", {4, 4});
  EXPECT_THAT(folder.Read(ReadNative, kNativeConfig),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("surplus: pooler.dense.weight")));
}

TEST(NativeTensorsTest, AreAllParametersThatAreThere) {
  for (const testing::NamedConfig& named : testing::ModelConfigs()) {
    SCOPED_TRACE(named.name);
    const ModelConfig config = named.config.Resolved();
    // What has no tensors there, and is not saved.
    const AttentionConfig& attention = config.block.attention;
    if (attention.qk_norm != QkNorm::kNone || attention.relative_bias || attention.disentangled ||
        attention.sinks) {
      continue;
    }
    const ModelParameters parameters = RandomModelParameters(config, 1);
    int64_t elements = 0;
    for (const auto& [name, tensor] : NativeTensors(config, parameters)) {
      elements += NumElements(tensor.shape).value();
    }
    EXPECT_EQ(elements, parameters.NumParameters());
  }
}

TEST(NativeTensorsTest, PointIntoTheParameters) {
  const ModelConfig config = testing::SmallEncoder().Resolved();
  ModelParameters parameters = RandomModelParameters(config, 1);
  parameters.layers[1].attention.bq.clear();
  const std::map<std::string, TensorToWrite> tensors = NativeTensors(config, parameters);
  EXPECT_EQ(tensors.at("layers.1.attention.wq").data, parameters.layers[1].attention.wq.data());
  EXPECT_EQ(tensors.at("embedding.tokens").shape,
            (Shape{config.embedding->vocab_size, config.block.attention.embed_dim}));
  EXPECT_THAT(tensors, Not(Contains(Key("layers.1.attention.bq")))) << "no bias is not one of zeros";
  EXPECT_THAT(tensors, Contains(Key("layers.0.attention.bq")));
}

}  // namespace
}  // namespace headlight
