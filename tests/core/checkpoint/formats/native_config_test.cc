// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/native_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/core/model/test_model.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using ::testing::Not;
using testing::StatusIs;

ConfigFields FieldsOfText(const testing::TempFolder& folder, const std::string& text) {
  absl::StatusOr<ConfigFields> fields = ConfigFields::Read(folder.Write("config.json", text));
  EXPECT_THAT(fields, IsOk());
  return *std::move(fields);
}

// As the reader of the format does: "format", "layout" and "precision" are not the config's own.
absl::StatusOr<ModelConfig> ReadBack(const std::string& text) {
  const testing::TempFolder folder;
  ConfigFields fields = FieldsOfText(folder, text);
  fields.String("format");
  fields.String("layout");
  ModelConfig config = ReadNativeConfig(fields);
  config.block.attention.precision = ReadPrecision(fields).value_or(Precision::kF32);
  config.block.attention.parameters_precision =
      ReadPrecision(fields, "parameters_precision").value_or(Precision::kF32);
  fields.FailUnknownKeys();
  if (!fields.status().ok()) return fields.status();
  return config.Resolved();
}

std::vector<ModelConfig> ManyConfigs() {
  std::vector<ModelConfig> configs;
  for (const testing::NamedConfig& named : testing::ModelConfigs()) {
    if (named.config.other_blocks.empty()) configs.push_back(named.config.Resolved());
  }
  ModelConfig config = testing::SmallEncoder();
  AttentionConfig& attention = config.block.attention;
  attention.num_kv_heads = 2;
  attention.head_dim = 10;
  attention.scale = 1.0 / 3.0;
  attention.add_zero_attn = attention.add_bias_kv = attention.alibi = true;
  attention.logit_softcap = 30.1;
  attention.window_left = 7;
  attention.window_right = 0;
  config.embedding->padding_id = 0;
  config.embedding->position_offset = 3;
  config.pooling = {};
  config.normalize_pooled = true;
  for (const auto scaling :
       {RopeConfig::Scaling::kLinear, RopeConfig::Scaling::kNtk, RopeConfig::Scaling::kLlama3,
        RopeConfig::Scaling::kYarn, RopeConfig::Scaling::kByPair}) {
    attention.rope = RopeConfig{.theta = 0.1,
                                .rotary_dim = 4,
                                .interleaved = true,
                                .scaling = scaling,
                                .factor = 1.0 / 7.0,
                                .low_freq_factor = 1.5,
                                .high_freq_factor = 3.5,
                                .beta_fast = 31.0 / 7.0,
                                .beta_slow = 1.0 / 3.0,
                                .truncate = false,
                                .original_max_len = int64_t{1} << 40,
                                .magnitude = 1.0 / 11.0,
                                .max_len = 77};
    if (scaling == RopeConfig::Scaling::kYarn) attention.rope->theta = 1.1;
    if (scaling == RopeConfig::Scaling::kByPair) attention.rope->pair_factors = {1.5, 1.0 / 13.0};
    attention.precision = scaling == RopeConfig::Scaling::kNtk ? Precision::kInt8 : Precision::kBf16;
    if (scaling == RopeConfig::Scaling::kYarn) attention.parameters_precision = Precision::kInt8;
    configs.push_back(config.Resolved());
  }
  return configs;
}

// The text says every field, so that equal texts are equal configs.
TEST(NativeConfigTest, WhatIsWrittenIsReadBack) {
  for (const ModelConfig& config : ManyConfigs()) {
    const std::string text = NativeConfigText(config, /*with_precision=*/true);
    const absl::StatusOr<ModelConfig> back = ReadBack(text);
    ASSERT_THAT(back, IsOk()) << text;
    EXPECT_EQ(NativeConfigText(*back, true), text);
    EXPECT_EQ(back->block.attention.scale, config.block.attention.scale);
    EXPECT_EQ(back->block.attention.rope, config.block.attention.rope);
    EXPECT_EQ(back->block.attention.window_right, config.block.attention.window_right);
    EXPECT_EQ(back->block.attention.precision, config.block.attention.precision);
    EXPECT_EQ(back->block.attention.parameters_precision, config.block.attention.parameters_precision);
    EXPECT_EQ(back->embedding.has_value(), config.embedding.has_value());
  }
}

TEST(NativeConfigTest, ThePrecisionMayBeLeftOut) {
  const ModelConfig config = testing::SmallEncoder().Resolved();
  EXPECT_THAT(NativeConfigText(config, true), HasSubstr("\"precision\": \"f32\""));
  EXPECT_THAT(NativeConfigText(config, false), Not(HasSubstr("precision")));
}

TEST(NativeConfigTest, KeysThatAreNotThereAreTheirDefaults) {
  const absl::StatusOr<ModelConfig> read =
      ReadBack(R"({"format": "headlight", "layout": "native", "embed_dim": 8, "num_heads": 2})");
  ASSERT_THAT(read, IsOk());
  ModelConfig wanted;
  wanted.block.attention = {.embed_dim = 8, .num_heads = 2};
  EXPECT_EQ(NativeConfigText(*read, true), NativeConfigText(wanted.Resolved(), true));
}

TEST(NativeConfigTest, ValuesThatAreNotServedAreNamedWithThoseThatAre) {
  const auto refused = [](const std::string& key, const std::string& message) {
    EXPECT_THAT(ReadBack(R"({"format": "headlight", "layout": "native", "embed_dim": 8, "num_heads": 2, )" +
                         key + "}"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  };
  refused(R"("activation": "mish")", "activation: got \"mish\", wanted one of relu, gelu, gelu_tanh, silu");
  refused(R"("pooling": "median")", "pooling: got \"median\", wanted none, or one or more of cls, mean, max");
  refused(R"("pooling": ["mean", "none"])",
          "pooling: got \"none\", wanted none, or one or more of cls, mean, max");
  refused(R"("precision": "fp8")", "precision: got \"fp8\", wanted one of f32, bf16, int8");
  refused(R"("parameters_precision": "int4")",
          "parameters_precision: got \"int4\", wanted one of f32, bf16, int8");
  refused(R"("norm_placement": "both")", "norm_placement: got \"both\", wanted one of none, post, pre");
  refused(R"("norm_kind": "batch")", "norm_kind: got \"batch\", wanted one of layer_norm, rms_norm");
  refused(R"("rope": {"scaling": "su"})",
          "rope.scaling: got \"su\", wanted one of none, linear, ntk, llama3, yarn, by_pair");
  refused(R"("rope": {"base": 2})", "rope.\"base\": unknown key");
  refused(R"("embedding": {"vocab_size": 2, "rows": 2})", "embedding.\"rows\": unknown key");
  refused(R"("embedding": {})", "embedding.vocab_size: missing");
  refused(R"("heads": 2)", "\"heads\": unknown key");
}

}  // namespace
}  // namespace headlight
