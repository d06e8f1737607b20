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

// Two query heads of 2 to one key head.
void AddPhi3(FormatFolder& folder) {
  const std::string layer = "layers.0.";
  folder.Add("embed_tokens.weight", {5, 4}, 1000);
  folder.Add("norm.weight", {4}, 30);
  folder.Add(layer + "input_layernorm.weight", {4}, 10);
  folder.Add(layer + "post_attention_layernorm.weight", {4}, 20);
  folder.Add(layer + "self_attn.qkv_proj.weight", {8, 4}, 100);
  folder.Add(layer + "self_attn.o_proj.weight", {4, 4}, 400);
  folder.Add(layer + "mlp.gate_up_proj.weight", {12, 4}, 500);
  folder.Add(layer + "mlp.down_proj.weight", {4, 6}, 700);
}

std::string Phi3Config(const std::string& more) {
  return absl::StrCat(R"({"hidden_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
      "num_hidden_layers": 1, "intermediate_size": 6, "vocab_size": 5)",
                      more, "}");
}

TEST(Phi3Test, FusedMatricesComeApart) {
  FormatFolder folder;
  AddPhi3(folder);
  const auto model = folder.Read(ReadPhi3, Phi3Config(""));
  ASSERT_THAT(model, IsOk());
  const BlockParameters& block = model->parameters.layers[0];
  EXPECT_EQ(block.attention.wq, TransposedFrom(100, 4, 4));
  EXPECT_EQ(block.attention.wk, TransposedFrom(116, 4, 2));
  EXPECT_EQ(block.attention.wv, TransposedFrom(124, 4, 2));
  EXPECT_EQ(block.feed_forward.gate, TransposedFrom(500, 4, 6));
  EXPECT_EQ(block.feed_forward.up, TransposedFrom(524, 4, 6));
  EXPECT_EQ(block.feed_forward.down, TransposedFrom(700, 6, 4));
  EXPECT_EQ(block.feed_forward_norm.gain, CountedFrom(20, 4));
  EXPECT_EQ(model->config.block.norm_eps, 1e-5);
  EXPECT_EQ(model->config.block.attention.window_left, std::nullopt);
  EXPECT_EQ(model->config.block.attention.rope, (RopeConfig{.rotary_dim = 2}));
}

TEST(Phi3Test, AllLayersHaveTheWindow) {
  FormatFolder folder;
  AddPhi3(folder);
  const auto model = folder.Read(ReadPhi3, Phi3Config(R"(, "sliding_window": 2047)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.window_left, 2046);
}

TEST(Phi3Test, PositionsAreScaledPairByPairUpToTheLengthOfTraining) {
  FormatFolder folder;
  AddPhi3(folder);
  for (const char* type : {"longrope", "su"}) {
    const auto model = folder.Read(
        ReadPhi3,
        Phi3Config(absl::StrCat(R"(, "max_position_embeddings": 8192, "rope_scaling": {"type": ")", type,
                                R"(", "short_factor": [1.5], "long_factor": [2.5], "factor": 1})")));
    ASSERT_THAT(model, IsOk()) << type;
    EXPECT_EQ(model->config.block.attention.rope, (RopeConfig{.rotary_dim = 2,
                                                              .scaling = RopeConfig::Scaling::kByPair,
                                                              .pair_factors = {1.5},
                                                              .max_len = 4096}));
  }
}

TEST(Phi3Test, WhatItDoesNotHaveIsRefused) {
  FormatFolder folder;
  AddPhi3(folder);
  for (const auto& [more, message] :
       {std::pair(R"(, "rope_scaling": {"type": "linear", "factor": 2.0})", "served are default, longrope"),
        std::pair(R"(, "rope_scaling": {"type": "yarn", "factor": 2.0})", "served are default, longrope"),
        std::pair(R"(, "rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1],
                       "original_max_position_embeddings": 7})",
                  "original_max_position_embeddings: got 7, and beside the object 4096"),
        std::pair(R"(, "attention_bias": true)", "attention_bias: got true"),
        std::pair(R"(, "full_attn_mod": 2)", "full_attn_mod: got 2"),
        std::pair(R"(, "partial_rotary_factor": 0.5)", "partial_rotary_factor: got 0.5, by which 1 of 2")}) {
    EXPECT_THAT(folder.Read(ReadPhi3, Phi3Config(more)).status().message(), HasSubstr(message));
  }
}

}  // namespace
}  // namespace headlight
