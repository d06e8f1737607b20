// SPDX-License-Identifier: Apache-2.0
//
// GPT-2 as transformers saves it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

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

void AddGpt2(FormatFolder& folder, int64_t hidden) {
  folder.Add("wte.weight", {5, 4}, 1000);
  folder.Add("wpe.weight", {7, 4}, 1100);
  for (const auto& [name, in, out, first] : {std::tuple("h.0.attn.c_attn", int64_t{4}, int64_t{12}, 100.0f),
                                             std::tuple("h.0.attn.c_proj", int64_t{4}, int64_t{4}, 400.0f),
                                             std::tuple("h.0.mlp.c_fc", int64_t{4}, hidden, 600.0f),
                                             std::tuple("h.0.mlp.c_proj", hidden, int64_t{4}, 800.0f)}) {
    folder.Add(absl::StrCat(name, ".weight"), {in, out}, first);
    folder.Add(absl::StrCat(name, ".bias"), {out}, first + 100);
  }
  float first = 10;
  for (const char* norm : {"h.0.ln_1", "h.0.ln_2", "ln_f"}) {
    folder.Add(absl::StrCat(norm, ".weight"), {4}, first);
    folder.Add(absl::StrCat(norm, ".bias"), {4}, first + 5);
    first += 10;
  }
}

std::string Gpt2Config(const std::string& more) {
  return absl::StrCat(R"({"n_embd": 4, "n_head": 2, "n_layer": 1, "vocab_size": 5, "n_positions": 7)", more,
                      "}");
}

TEST(Gpt2Test, MatricesAreTakenAsTheyAreAndTheirColumnsDivided) {
  FormatFolder folder;
  AddGpt2(folder, 6);
  const auto model = folder.Read(ReadGpt2, Gpt2Config(R"(, "n_inner": 6)"));
  ASSERT_THAT(model, IsOk());
  const BlockParameters& block = model->parameters.layers[0];
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t col = 0; col < 4; ++col) {
      const float first = 100 + static_cast<float>(row * 12 + col);
      EXPECT_EQ(block.attention.wq[row * 4 + col], first);
      EXPECT_EQ(block.attention.wk[row * 4 + col], first + 4);
      EXPECT_EQ(block.attention.wv[row * 4 + col], first + 8);
    }
  }
  EXPECT_EQ(block.attention.bq, CountedFrom(200, 4));
  EXPECT_EQ(block.attention.bk, CountedFrom(204, 4));
  EXPECT_EQ(block.attention.bv, CountedFrom(208, 4));
  EXPECT_EQ(block.attention.wo, CountedFrom(400, 16));
  EXPECT_EQ(block.attention.bo, CountedFrom(500, 4));
  EXPECT_EQ(block.feed_forward.up, CountedFrom(600, 24));
  EXPECT_EQ(block.feed_forward.up_bias, CountedFrom(700, 6));
  EXPECT_EQ(block.feed_forward.down, CountedFrom(800, 24));
  EXPECT_EQ(block.feed_forward.down_bias, CountedFrom(900, 4));
  EXPECT_EQ(block.attention_norm.gain, CountedFrom(10, 4));
  EXPECT_EQ(block.feed_forward_norm.bias, CountedFrom(25, 4));
  EXPECT_EQ(model->parameters.final_norm.gain, CountedFrom(30, 4));
  EXPECT_EQ(model->parameters.embedding.tokens, CountedFrom(1000, 20));
  EXPECT_EQ(model->parameters.embedding.positions, CountedFrom(1100, 28));
}

TEST(Gpt2Test, IsACausalPreNormStack) {
  FormatFolder folder;
  AddGpt2(folder, 16);  // four times the width unless it is said
  const auto model = folder.Read(ReadGpt2, Gpt2Config(""));
  ASSERT_THAT(model, IsOk());
  const ModelConfig& config = model->config;
  EXPECT_EQ(config.block.feed_forward.hidden_dim, 16);
  EXPECT_EQ(config.block.feed_forward.activation, Activation::kGeluTanh);
  EXPECT_EQ(config.block.norm_placement, NormPlacement::kPre);
  EXPECT_EQ(config.block.norm_eps, 1e-5);
  EXPECT_TRUE(config.causal);
  EXPECT_TRUE(config.final_norm);
  EXPECT_FALSE(config.scale_by_inverse_layer);
  EXPECT_NEAR(*config.block.attention.scale, 0.70710678, 1e-8);
}

TEST(Gpt2Test, OptionsOfTheScaleAreFollowed) {
  FormatFolder folder;
  AddGpt2(folder, 16);
  const auto model = folder.Read(
      ReadGpt2, Gpt2Config(R"(, "scale_attn_weights": false, "scale_attn_by_inverse_layer_idx": true)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.scale, 1.0);
  EXPECT_TRUE(model->config.scale_by_inverse_layer);
}

TEST(Gpt2Test, OldConfigsSayTheirContextOnly) {
  FormatFolder folder;
  AddGpt2(folder, 16);
  const auto model =
      folder.Read(ReadGpt2, R"({"n_embd": 4, "n_head": 2, "n_layer": 1, "vocab_size": 5, "n_ctx": 7})");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.embedding->num_positions, 7);
}

TEST(Gpt2Test, HeadAndConstantBuffersAreLeftAside) {
  FormatFolder folder;
  AddGpt2(folder, 16);
  folder.Add("h.0.attn.bias", {1, 1, 7, 7});
  folder.Add("h.0.attn.masked_bias", {1});
  folder.Prefix("transformer.");
  folder.Add("lm_head.weight", {5, 4});
  const auto model = folder.Read(ReadGpt2, Gpt2Config(""));
  ASSERT_THAT(model, IsOk());
  EXPECT_THAT(model->ignored,
              ElementsAre("lm_head.weight", "transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"));
}

TEST(Gpt2Test, ItsKeysHaveTheNamesOfOtherFamiliesToo) {
  FormatFolder folder;
  AddGpt2(folder, 16);
  const auto model = folder.Read(ReadGpt2, R"({"hidden_size": 4, "num_attention_heads": 2,
      "num_hidden_layers": 1, "vocab_size": 5, "max_position_embeddings": 7})");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.num_heads, 2);
  EXPECT_THAT(
      folder.Read(ReadGpt2, Gpt2Config(R"(, "num_attention_heads": 4)")),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("n_head: got 2, and num_attention_heads 4")));
}

// Tied tables are one tensor, which save_model and tools of one's own keep under the head's name.
TEST(Gpt2Test, ATiedTableMayHaveTheNameOfTheHead) {
  FormatFolder folder;
  AddGpt2(folder, 16);
  folder.Remove("wte.weight");
  folder.Prefix("transformer.");
  folder.Add("lm_head.weight", {5, 4}, 1000);
  const auto model = folder.Read(ReadGpt2, Gpt2Config(""));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->parameters.embedding.tokens, CountedFrom(1000, 20));
  EXPECT_THAT(folder.Read(ReadGpt2, Gpt2Config(R"(, "tie_word_embeddings": false)")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("missing: transformer.wte.weight")));
}

}  // namespace
}  // namespace headlight
