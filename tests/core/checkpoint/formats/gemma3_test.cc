// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::CountedFrom;
using ::testing::ElementsAre;
using testing::FormatFolder;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;
using testing::TransposedFrom;

// Two query heads of 6 to one key head, in `layers` layers.
void AddGemma3(FormatFolder& folder, int layers = 1) {
  folder.Add("embed_tokens.weight", {5, 4}, 1000);
  folder.Add("norm.weight", {4}, 30);
  for (int i = 0; i < layers; ++i) {
    const std::string layer = absl::StrCat("layers.", i, ".");
    folder.Add(layer + "input_layernorm.weight", {4}, 10);
    folder.Add(layer + "post_attention_layernorm.weight", {4}, 15);
    folder.Add(layer + "pre_feedforward_layernorm.weight", {4}, 20);
    folder.Add(layer + "post_feedforward_layernorm.weight", {4}, 25);
    folder.Add(layer + "self_attn.q_proj.weight", {12, 4}, 100);
    folder.Add(layer + "self_attn.k_proj.weight", {6, 4}, 200);
    folder.Add(layer + "self_attn.v_proj.weight", {6, 4}, 300);
    folder.Add(layer + "self_attn.o_proj.weight", {4, 12}, 400);
    folder.Add(layer + "self_attn.q_norm.weight", {6}, 40);
    folder.Add(layer + "self_attn.k_norm.weight", {6}, 50);
    folder.Add(layer + "mlp.gate_proj.weight", {6, 4}, 500);
    folder.Add(layer + "mlp.up_proj.weight", {6, 4}, 600);
    folder.Add(layer + "mlp.down_proj.weight", {4, 6}, 700);
  }
}

std::string Gemma3Config(const std::string& more, int layers = 1) {
  return absl::StrCat(R"({"hidden_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6,
      "intermediate_size": 6, "vocab_size": 5, "num_hidden_layers": )",
                      layers, more, "}");
}

TEST(Gemma3Test, GainsAreStoredAsTheirDifferenceFromOne) {
  FormatFolder folder;
  AddGemma3(folder);
  const auto model = folder.Read(ReadGemma3Text, Gemma3Config(""));
  ASSERT_THAT(model, IsOk());
  const BlockParameters& block = model->parameters.layers[0];
  EXPECT_EQ(block.attention_norm.gain, CountedFrom(11, 4));
  EXPECT_EQ(block.attention_output_norm.gain, CountedFrom(16, 4));
  EXPECT_EQ(block.feed_forward_norm.gain, CountedFrom(21, 4));
  EXPECT_EQ(block.feed_forward_output_norm.gain, CountedFrom(26, 4));
  EXPECT_EQ(block.attention.q_norm, CountedFrom(41, 6));
  EXPECT_EQ(block.attention.k_norm, CountedFrom(51, 6));
  EXPECT_EQ(model->parameters.final_norm.gain, CountedFrom(31, 4));
  EXPECT_EQ(block.attention.wo, TransposedFrom(400, 12, 4));
}

TEST(Gemma3Test, HasTheOptionsOfItsFamily) {
  FormatFolder folder;
  AddGemma3(folder);
  const auto model = folder.Read(ReadGemma3Text, Gemma3Config(R"(, "query_pre_attn_scalar": 16)"));
  ASSERT_THAT(model, IsOk());
  const ModelConfig& config = model->config;
  EXPECT_EQ(config.block.norm_placement, NormPlacement::kSandwich);
  EXPECT_EQ(config.block.attention.qk_norm, QkNorm::kEachHead);
  EXPECT_EQ(config.block.attention.scale, 0.25);
  EXPECT_EQ(config.embedding->scale, 2.0);
  EXPECT_EQ(config.block.feed_forward.activation, Activation::kGeluTanh);
  EXPECT_TRUE(config.causal);
}

TEST(Gemma3Test, EverySixthLayerSeesAllAndTurnsByAnotherBase) {
  FormatFolder folder;
  AddGemma3(folder, 7);
  const auto model = folder.Read(ReadGemma3Text, Gemma3Config("", 7));
  ASSERT_THAT(model, IsOk());
  for (int64_t i = 0; i < 7; ++i) {
    const AttentionConfig& attention = model->config.LayerBlock(i).attention;
    EXPECT_EQ(attention.window_left, i == 5 ? std::nullopt : std::optional<int64_t>(4095)) << i;
    EXPECT_EQ(attention.window_right, std::nullopt);
    EXPECT_EQ(attention.rope->theta, i == 5 ? 1e6 : 1e4) << i;
  }
}

TEST(Gemma3Test, KindsOfLayersAndTheirPositionsAreReadInOldAndNewSpelling) {
  FormatFolder folder;
  AddGemma3(folder, 2);
  for (
      const char* more :
      {R"(, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 3, "rope_parameters":
           {"full_attention": {"rope_theta": 500.0, "rope_type": "linear", "factor": 8.0},
            "sliding_attention": {"rope_theta": 50.0, "rope_type": "default"}})",
       R"(, "sliding_window_pattern": 2, "sliding_window": 3, "rope_theta": 500.0, "rope_local_base_freq": 50.0,
           "rope_scaling": {"rope_type": "linear", "factor": 8.0})"}) {
    const auto model = folder.Read(ReadGemma3Text, Gemma3Config(more, 2));
    ASSERT_THAT(model, IsOk());
    const AttentionConfig& first = model->config.LayerBlock(0).attention;
    const AttentionConfig& second = model->config.LayerBlock(1).attention;
    EXPECT_EQ(first.window_left, 2);
    EXPECT_EQ(second.window_left, std::nullopt);
    EXPECT_EQ(first.rope, (RopeConfig{.theta = 50.0, .rotary_dim = 6}));
    EXPECT_EQ(second.rope,
              (RopeConfig{
                  .theta = 500.0, .rotary_dim = 6, .scaling = RopeConfig::Scaling::kLinear, .factor = 8.0}));
  }
}

// Half of it before the query, half behind, as transformers makes of it.
TEST(Gemma3Test, WhereBothSidesAreSeenTheWindowIsHalved) {
  FormatFolder folder;
  AddGemma3(folder);
  for (const auto& [window, half] : {std::pair(512, 256), std::pair(5, 2), std::pair(1, 0)}) {
    const auto model = folder.Read(
        ReadGemma3Text,
        Gemma3Config(absl::StrCat(R"(, "use_bidirectional_attention": true, "sliding_window": )", window)));
    ASSERT_THAT(model, IsOk());
    EXPECT_FALSE(model->config.causal);
    EXPECT_EQ(model->config.block.attention.window_left, half);
    EXPECT_EQ(model->config.block.attention.window_right, half);
  }
}

TEST(Gemma3Test, WhatItDoesNotHaveIsRefused) {
  FormatFolder folder;
  AddGemma3(folder);
  for (const auto& [more, message] :
       {std::pair(R"(, "attn_logit_softcapping": 50.0)", "attn_logit_softcapping: got 50"),
        std::pair(R"(, "sliding_window": null)", "sliding_window: got null"),
        std::pair(R"(, "_sliding_window_pattern": 3)", "_sliding_window_pattern: got 3, served is 6"),
        std::pair(R"(, "layer_types": ["chunked_attention"])", "layer_types: got \"chunked_attention\""),
        std::pair(R"(, "rope_parameters": {"rope_theta": 5.0})", "rope_parameters.rope_theta"),
        std::pair(R"(, "is_causal": false)", "is_causal")}) {
    EXPECT_THAT(folder.Read(ReadGemma3Text, Gemma3Config(more)).status().message(), HasSubstr(message));
  }
  EXPECT_THAT(folder.Read(ReadGemma3Text, Gemma3Config(R"(, "final_logit_softcapping": 30.0)")), IsOk());
}

}  // namespace
}  // namespace headlight
