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

// Two heads of 4, of which 2 dimensions turn.
void AddNeoX(FormatFolder& folder) {
  folder.Add("embed_in.weight", {5, 8}, 1000);
  const std::string layer = "layers.0.";
  for (const auto& [name, first] :
       {std::pair("input_layernorm", 10.0f), std::pair("post_attention_layernorm", 30.0f)}) {
    folder.Add(layer + name + ".weight", {8}, first);
    folder.Add(layer + name + ".bias", {8}, first + 10);
  }
  folder.Add(layer + "attention.query_key_value.weight", {24, 8}, 100);
  folder.Add(layer + "attention.query_key_value.bias", {24}, 300);
  folder.Add(layer + "attention.dense.weight", {8, 8}, 400);
  folder.Add(layer + "attention.dense.bias", {8}, 500);
  folder.Add(layer + "mlp.dense_h_to_4h.weight", {3, 8}, 600);
  folder.Add(layer + "mlp.dense_h_to_4h.bias", {3}, 650);
  folder.Add(layer + "mlp.dense_4h_to_h.weight", {8, 3}, 700);
  folder.Add(layer + "mlp.dense_4h_to_h.bias", {8}, 750);
  folder.Add("final_layer_norm.weight", {8}, 50);
  folder.Add("final_layer_norm.bias", {8}, 60);
}

std::string NeoXConfig(const std::string& more) {
  return absl::StrCat(R"({"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 5,
      "intermediate_size": 3, "rotary_pct": 0.5)",
                      more, "}");
}

TEST(GptNeoXTest, EachHeadOfTheFusedMatrixGoesToItsPlace) {
  FormatFolder folder;
  AddNeoX(folder);
  const auto model = folder.Read(ReadGptNeoX, NeoXConfig(""));
  ASSERT_THAT(model, IsOk());
  const AttentionParameters& attention = model->parameters.layers[0].attention;
  EXPECT_THAT(attention.bq, ElementsAre(300, 301, 302, 303, 312, 313, 314, 315));
  EXPECT_THAT(attention.bk, ElementsAre(304, 305, 306, 307, 316, 317, 318, 319));
  EXPECT_THAT(attention.bv, ElementsAre(308, 309, 310, 311, 320, 321, 322, 323));
  for (int64_t in = 0; in < 8; ++in) {
    for (int64_t out = 0; out < 8; ++out) {
      const int64_t row = out / 4 * 12 + out % 4;
      EXPECT_EQ(attention.wq[in * 8 + out], static_cast<float>(100 + row * 8 + in));
      EXPECT_EQ(attention.wk[in * 8 + out], static_cast<float>(100 + (row + 4) * 8 + in));
      EXPECT_EQ(attention.wv[in * 8 + out], static_cast<float>(100 + (row + 8) * 8 + in));
    }
  }
  EXPECT_EQ(attention.wo, TransposedFrom(400, 8, 8));
  EXPECT_EQ(model->parameters.layers[0].feed_forward.up, TransposedFrom(600, 8, 3));
  EXPECT_EQ(model->parameters.layers[0].feed_forward_norm.bias, CountedFrom(40, 8));
  EXPECT_EQ(model->parameters.final_norm.bias, CountedFrom(60, 8));
}

TEST(GptNeoXTest, IsAParallelCausalStackOfWhoseHeadsAPartTurns) {
  FormatFolder folder;
  AddNeoX(folder);
  auto model = folder.Read(ReadGptNeoX, NeoXConfig(R"(, "rotary_emb_base": 500)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.norm_placement, NormPlacement::kParallel);
  EXPECT_EQ(model->config.block.norm_kind, NormKind::kLayerNorm);
  EXPECT_EQ(model->config.block.norm_eps, 1e-5);
  EXPECT_EQ(model->config.block.attention.rope, (RopeConfig{.theta = 500.0, .rotary_dim = 2}));
  EXPECT_EQ(model->config.block.feed_forward.activation, Activation::kGeluErf);
  EXPECT_FALSE(model->config.block.feed_forward.gated);
  EXPECT_TRUE(model->config.causal);
  EXPECT_TRUE(model->config.final_norm);
  model = folder.Read(ReadGptNeoX, NeoXConfig(R"(, "use_parallel_residual": false)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.norm_placement, NormPlacement::kPre);
}

TEST(GptNeoXTest, MasksAndTheHeadAreLeftAside) {
  FormatFolder folder;
  AddNeoX(folder);
  folder.Add("layers.0.attention.bias", {1, 1, 4, 4});
  folder.Add("layers.0.attention.masked_bias", {});
  folder.Add("layers.0.attention.rotary_emb.inv_freq", {1});
  folder.Prefix("gpt_neox.");
  folder.Add("embed_out.weight", {5, 8});
  const auto model = folder.Read(ReadGptNeoX, NeoXConfig(""));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->ignored.size(), 4u);
}

TEST(GptNeoXTest, BiasesOfAttentionAreThereUnlessTheConfigSaysNot) {
  FormatFolder folder;
  AddNeoX(folder);
  EXPECT_THAT(folder.Read(ReadGptNeoX, NeoXConfig(R"(, "attention_bias": false)")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 tensors do not fit")));
  folder.Remove("layers.0.attention.query_key_value.bias");
  folder.Remove("layers.0.attention.dense.bias");
  EXPECT_THAT(folder.Read(ReadGptNeoX, NeoXConfig(R"(, "attention_bias": false)")), IsOk());
}

// transformers 4 writes both names, and 5 reads the family's own alone.
TEST(GptNeoXTest, OtherNamesOfPositionsMustSayTheSame) {
  FormatFolder folder;
  AddNeoX(folder);
  EXPECT_THAT(folder.Read(ReadGptNeoX, NeoXConfig(R"(, "rope_theta": 10000, "partial_rotary_factor": 0.5)")),
              IsOk());
  for (const auto& [more, message] :
       {std::pair(R"(, "rope_theta": 500.0)", "rope_theta: got 500, and by rotary_emb_base it is 10000"),
        std::pair(R"(, "partial_rotary_factor": 1)",
                  "partial_rotary_factor: got 1, and by rotary_pct 2 of 4"),
        std::pair(R"(, "head_dim": 8)", "head_dim: got 8, served is 4"),
        std::pair(R"(, "rope_parameters": {"partial_rotary_factor": 0.25})",
                  "rotary_pct: got 0.25, by which 1"),
        std::pair(R"(, "is_causal": false)", "is_causal")}) {
    EXPECT_THAT(folder.Read(ReadGptNeoX, NeoXConfig(more)).status().message(), HasSubstr(message));
  }
}

}  // namespace
}  // namespace headlight
