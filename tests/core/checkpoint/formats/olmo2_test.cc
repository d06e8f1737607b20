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
void AddOlmo2(FormatFolder& folder) {
  const std::string layer = "layers.0.";
  folder.Add("embed_tokens.weight", {5, 4}, 1000);
  folder.Add("norm.weight", {4}, 30);
  folder.Add(layer + "post_attention_layernorm.weight", {4}, 10);
  folder.Add(layer + "post_feedforward_layernorm.weight", {4}, 20);
  folder.Add(layer + "self_attn.q_proj.weight", {4, 4}, 100);
  folder.Add(layer + "self_attn.k_proj.weight", {2, 4}, 200);
  folder.Add(layer + "self_attn.v_proj.weight", {2, 4}, 300);
  folder.Add(layer + "self_attn.o_proj.weight", {4, 4}, 400);
  folder.Add(layer + "self_attn.q_norm.weight", {4}, 40);
  folder.Add(layer + "self_attn.k_norm.weight", {2}, 50);
  folder.Add(layer + "mlp.gate_proj.weight", {6, 4}, 500);
  folder.Add(layer + "mlp.up_proj.weight", {6, 4}, 600);
  folder.Add(layer + "mlp.down_proj.weight", {4, 6}, 700);
}

std::string Olmo2Config(const std::string& more) {
  return absl::StrCat(R"({"hidden_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
      "num_hidden_layers": 1, "intermediate_size": 6, "vocab_size": 5)",
                      more, "}");
}

TEST(Olmo2Test, NormsStandBehindEachPartAndOverAllHeads) {
  FormatFolder folder;
  AddOlmo2(folder);
  const auto model = folder.Read(ReadOlmo2, Olmo2Config(""));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.norm_placement, NormPlacement::kBranch);
  EXPECT_EQ(model->config.block.norm_eps, 1e-5);
  EXPECT_EQ(model->config.block.attention.qk_norm, QkNorm::kAllHeads);
  EXPECT_EQ(model->config.block.attention.qk_norm_eps, 1e-5);
  const BlockParameters& block = model->parameters.layers[0];
  EXPECT_EQ(block.attention_norm.gain, CountedFrom(10, 4));
  EXPECT_EQ(block.feed_forward_norm.gain, CountedFrom(20, 4));
  EXPECT_EQ(block.attention.q_norm, CountedFrom(40, 4));
  EXPECT_EQ(block.attention.k_norm, CountedFrom(50, 2));
}

TEST(Olmo2Test, TheFirstOlmosClippingIsRefused) {
  FormatFolder folder;
  AddOlmo2(folder);
  EXPECT_THAT(folder.Read(ReadOlmo2, Olmo2Config(R"(, "clip_qkv": 8.0)")),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("clip_qkv: got 8")));
  EXPECT_THAT(folder.Read(ReadOlmo2, Olmo2Config(R"(, "clip_qkv": null)")), IsOk());
}

}  // namespace
}  // namespace headlight
