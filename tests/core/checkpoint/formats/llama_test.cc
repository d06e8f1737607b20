// SPDX-License-Identifier: Apache-2.0
//
// LLaMA, Mistral, Qwen2 and Qwen3 as transformers saves them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <tuple>
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
void AddLlama(FormatFolder& folder) {
  folder.Add("embed_tokens.weight", {5, 4}, 1000);
  const std::string layer = "layers.0.";
  folder.Add(layer + "input_layernorm.weight", {4}, 10);
  folder.Add(layer + "self_attn.q_proj.weight", {4, 4}, 100);
  folder.Add(layer + "self_attn.k_proj.weight", {2, 4}, 200);
  folder.Add(layer + "self_attn.v_proj.weight", {2, 4}, 300);
  folder.Add(layer + "self_attn.o_proj.weight", {4, 4}, 400);
  folder.Add(layer + "post_attention_layernorm.weight", {4}, 20);
  folder.Add(layer + "mlp.gate_proj.weight", {6, 4}, 500);
  folder.Add(layer + "mlp.up_proj.weight", {6, 4}, 600);
  folder.Add(layer + "mlp.down_proj.weight", {4, 6}, 700);
  folder.Add("norm.weight", {4}, 30);
}

std::string LlamaConfig(const std::string& more) {
  return absl::StrCat(R"({"hidden_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1,
      "num_hidden_layers": 1, "intermediate_size": 6, "vocab_size": 5)",
                      more, "}");
}

TEST(LlamaTest, EachTensorGoesToItsPlace) {
  FormatFolder folder;
  AddLlama(folder);
  const auto model = folder.Read(ReadLlama, LlamaConfig(""));
  ASSERT_THAT(model, IsOk());
  const BlockParameters& block = model->parameters.layers[0];
  EXPECT_EQ(block.attention.wq, TransposedFrom(100, 4, 4));
  EXPECT_EQ(block.attention.wk, TransposedFrom(200, 4, 2));
  EXPECT_EQ(block.attention.wv, TransposedFrom(300, 4, 2));
  EXPECT_EQ(block.attention.wo, TransposedFrom(400, 4, 4));
  EXPECT_TRUE(block.attention.bq.empty());
  EXPECT_EQ(block.feed_forward.gate, TransposedFrom(500, 4, 6));
  EXPECT_EQ(block.feed_forward.up, TransposedFrom(600, 4, 6));
  EXPECT_EQ(block.feed_forward.down, TransposedFrom(700, 6, 4));
  EXPECT_EQ(block.attention_norm.gain, CountedFrom(10, 4));
  EXPECT_TRUE(block.attention_norm.bias.empty());
  EXPECT_EQ(block.feed_forward_norm.gain, CountedFrom(20, 4));
  EXPECT_EQ(model->parameters.final_norm.gain, CountedFrom(30, 4));
  EXPECT_EQ(model->parameters.embedding.tokens, CountedFrom(1000, 20));
  EXPECT_TRUE(model->parameters.embedding.positions.empty());
}

TEST(LlamaTest, IsACausalGatedPreNormStackWithRotaryPositions) {
  FormatFolder folder;
  AddLlama(folder);
  const auto model = folder.Read(ReadLlama, LlamaConfig(R"(, "rope_theta": 500.0)"));
  ASSERT_THAT(model, IsOk());
  const ModelConfig& config = model->config;
  EXPECT_EQ(config.block.attention.num_kv_heads, 1);
  EXPECT_EQ(config.block.attention.rope->theta, 500.0);
  EXPECT_FALSE(config.block.attention.rope->interleaved);
  EXPECT_EQ(config.block.attention.rope->scaling, RopeConfig::Scaling::kNone);
  EXPECT_EQ(config.block.norm_kind, NormKind::kRmsNorm);
  EXPECT_EQ(config.block.norm_placement, NormPlacement::kPre);
  EXPECT_EQ(config.block.norm_eps, 1e-6);
  EXPECT_TRUE(config.block.feed_forward.gated);
  EXPECT_EQ(config.block.feed_forward.activation, Activation::kSilu);
  EXPECT_TRUE(config.causal);
  EXPECT_TRUE(config.final_norm);
  EXPECT_EQ(config.block.attention.window_left, std::nullopt);
}

TEST(LlamaTest, HeadsMayHaveAWidthOfTheirOwn) {
  FormatFolder folder;
  AddLlama(folder);
  folder.Add("layers.0.self_attn.q_proj.weight", {12, 4}, 100);
  folder.Add("layers.0.self_attn.k_proj.weight", {6, 4}, 200);
  folder.Add("layers.0.self_attn.v_proj.weight", {6, 4}, 300);
  folder.Add("layers.0.self_attn.o_proj.weight", {4, 12}, 400);
  const auto model = folder.Read(ReadLlama, LlamaConfig(R"(, "head_dim": 6)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.head_dim, 6);
  EXPECT_EQ(model->parameters.layers[0].attention.wo, TransposedFrom(400, 12, 4));
}

TEST(LlamaTest, BiasesAreThereWhereTheConfigSaysSo) {
  FormatFolder folder;
  AddLlama(folder);
  folder.Add("layers.0.self_attn.q_proj.bias", {4}, 150);
  folder.Add("layers.0.self_attn.k_proj.bias", {2}, 250);
  folder.Add("layers.0.self_attn.v_proj.bias", {2}, 350);
  folder.Add("layers.0.self_attn.o_proj.bias", {4}, 450);
  const auto model = folder.Read(ReadLlama, LlamaConfig(R"(, "attention_bias": true)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->parameters.layers[0].attention.bq, CountedFrom(150, 4));
  EXPECT_EQ(model->parameters.layers[0].attention.bo, CountedFrom(450, 4));
  EXPECT_THAT(folder.Read(ReadLlama, LlamaConfig("")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("4 tensors do not fit")));
}

TEST(LlamaTest, UnderAPrefixTheHeadIsLeftAside) {
  FormatFolder folder;
  AddLlama(folder);
  folder.Add("layers.0.self_attn.rotary_emb.inv_freq", {1});
  folder.Prefix("model.");
  folder.Add("lm_head.weight", {5, 4});
  const auto model = folder.Read(ReadLlama, LlamaConfig(""));
  ASSERT_THAT(model, IsOk());
  EXPECT_THAT(model->ignored, ElementsAre("lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"));
}

TEST(MistralTest, AQuerySeesItselfAndTheWindowBefore) {
  FormatFolder folder;
  AddLlama(folder);
  auto model = folder.Read(ReadMistral, LlamaConfig(R"(, "sliding_window": 9)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.window_left, 8);
  model = folder.Read(ReadMistral, LlamaConfig(R"(, "sliding_window": null)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.window_left, std::nullopt);
}

// Null is a value: no window, and as many key heads as heads. Absence says what the family's class says.
TEST(MistralTest, NullAndAbsenceDiffer) {
  FormatFolder folder;
  AddLlama(folder);
  const auto model = folder.Read(ReadMistral, LlamaConfig(""));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.window_left, 4095);
  const auto kv_heads = [&](const std::string& more) {
    ConfigFields fields = folder.Fields(absl::StrCat(R"({"num_attention_heads": 16)", more, "}")).value();
    return ReadMistral(fields, folder.Checkpoint().value()).config.block.attention.num_kv_heads;
  };
  EXPECT_EQ(kv_heads(""), 8);
  EXPECT_EQ(kv_heads(R"(, "num_key_value_heads": null)"), 16);
}

TEST(MistralTest, KindsOfLayersMakeItAnotherFamily) {
  FormatFolder folder;
  AddLlama(folder);
  for (const char* layer_types : {R"(["sliding_attention"])", "null"}) {
    EXPECT_THAT(folder.Read(ReadMistral, LlamaConfig(absl::StrCat(R"(, "layer_types": )", layer_types))),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("layer_types")));
  }
}

TEST(LlamaTest, WithoutItsMaskItIsRefusedUnlessThatIsMeant) {
  FormatFolder folder;
  AddLlama(folder);
  EXPECT_THAT(folder.Read(ReadLlama, LlamaConfig(R"(, "is_causal": false)")),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("is_causal")));
}

class Qwen2Test : public ::testing::Test {
 protected:
  Qwen2Test() {
    AddLlama(folder_);
    for (const auto& [name, width, first] :
         {std::tuple("q_proj", int64_t{4}, 1.0f), std::tuple("k_proj", int64_t{2}, 11.0f),
          std::tuple("v_proj", int64_t{2}, 21.0f)}) {
      folder_.Add(absl::StrCat("layers.0.self_attn.", name, ".bias"), {width}, first);
    }
  }
  // Of three layers.
  ModelConfig Config(const std::string& more, absl::Status& status) {
    ConfigFields fields = folder_.Fields(absl::StrCat(R"({"num_hidden_layers": 3)", more, "}")).value();
    const ModelConfig config = ReadQwen2(fields, folder_.Checkpoint().value()).config;
    status = fields.status();
    return config;
  }
  std::vector<std::optional<int64_t>> Windows(const std::string& more) {
    absl::Status status;
    const ModelConfig config = Config(more, status);
    EXPECT_THAT(status, IsOk()) << more;
    std::vector<std::optional<int64_t>> windows;
    for (int64_t i = 0; i < 3; ++i) windows.push_back(config.LayerBlock(i).attention.window_left);
    return windows;
  }

  FormatFolder folder_;
};

TEST_F(Qwen2Test, QueriesKeysAndValuesHaveBiases) {
  const auto model = folder_.Read(ReadQwen2, LlamaConfig(""));
  ASSERT_THAT(model, IsOk());
  const AttentionParameters& attention = model->parameters.layers[0].attention;
  EXPECT_EQ(attention.bq, CountedFrom(1, 4));
  EXPECT_EQ(attention.bk, CountedFrom(11, 2));
  EXPECT_EQ(attention.bv, CountedFrom(21, 2));
  EXPECT_TRUE(attention.bo.empty());
  EXPECT_EQ(model->config.block.attention.window_left, std::nullopt);
}

TEST_F(Qwen2Test, WindowsAreThoseOfTheLayersThatHaveThem) {
  using Windows3 = std::vector<std::optional<int64_t>>;
  EXPECT_EQ(Windows(R"(, "sliding_window": 5)"), Windows3(3)) << "off unless switched on";
  EXPECT_EQ(Windows(R"(, "use_sliding_window": true, "sliding_window": 5, "max_window_layers": 2)"),
            (Windows3{std::nullopt, std::nullopt, 4}));
  EXPECT_EQ(Windows(R"(, "use_sliding_window": true, "max_window_layers": 0)"), (Windows3{4095, 4095, 4095}));
  EXPECT_EQ(Windows(R"(, "use_sliding_window": true, "sliding_window": null, "max_window_layers": 0)"),
            Windows3(3));
  EXPECT_EQ(Windows(R"(, "use_sliding_window": true, "sliding_window": 5,
                        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"])"),
            (Windows3{4, std::nullopt, 4}));
}

TEST_F(Qwen2Test, KindsOfLayersThatAreNotServedAreNamed) {
  absl::Status status;
  Config(R"(, "layer_types": ["full_attention"])", status);
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layer_types: got 1, wanted one")));
  for (const char* type : {"sliding_attention", "linear_attention"}) {  // a window that is not there
    Config(absl::StrCat(R"(, "layer_types": ["full_attention", "full_attention", ")", type, "\"]"), status);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(type)));
  }
}

TEST(Qwen3Test, NormsQueriesAndKeysHeadByHead) {
  FormatFolder folder;
  AddLlama(folder);
  folder.Add("layers.0.self_attn.q_norm.weight", {2}, 40);
  folder.Add("layers.0.self_attn.k_norm.weight", {2}, 50);
  const auto model = folder.Read(ReadQwen3, LlamaConfig(R"(, "head_dim": 2, "rms_norm_eps": 1e-3)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.qk_norm, QkNorm::kEachHead);
  EXPECT_EQ(model->config.block.attention.qk_norm_eps, 1e-3);
  EXPECT_EQ(model->parameters.layers[0].attention.q_norm, CountedFrom(40, 2));
  EXPECT_EQ(model->parameters.layers[0].attention.k_norm, CountedFrom(50, 2));
  EXPECT_TRUE(model->parameters.layers[0].attention.bq.empty());
}

TEST(Qwen3Test, HeadsAreAsWideAsTheFamilyHasThem) {
  FormatFolder folder;
  AddLlama(folder);
  ConfigFields absent = folder.Fields(LlamaConfig("")).value();
  EXPECT_EQ(ReadQwen3(absent, folder.Checkpoint().value()).config.block.attention.head_dim, 128);
  EXPECT_THAT(folder.Read(ReadQwen3, LlamaConfig(R"(, "head_dim": null)")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("head_dim: got null")));
}

}  // namespace
}  // namespace headlight
