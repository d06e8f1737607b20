// SPDX-License-Identifier: Apache-2.0
//
// state_dict()s of PyTorch's own modules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using testing::CountedFrom;
using ::testing::ElementsAre;
using testing::FormatFolder;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::ReadModel;
using testing::StatusIs;
using testing::TransposedFrom;

// torch.nn.MultiheadAttention(4, 2) as it packs its projections.
void AddTorchAttention(FormatFolder& folder, const std::string& prefix) {
  folder.Add(prefix + "in_proj_weight", {12, 4}, 100);
  folder.Add(prefix + "in_proj_bias", {12}, 200);
  folder.Add(prefix + "out_proj.weight", {4, 4}, 300);
  folder.Add(prefix + "out_proj.bias", {4}, 400);
}

void AddTorchLayer(FormatFolder& folder, const std::string& prefix) {
  AddTorchAttention(folder, prefix + "self_attn.");
  folder.Add(prefix + "linear1.weight", {6, 4}, 500);
  folder.Add(prefix + "linear1.bias", {6}, 600);
  folder.Add(prefix + "linear2.weight", {4, 6}, 700);
  folder.Add(prefix + "linear2.bias", {4}, 800);
  for (const char* norm : {"norm1", "norm2"}) {
    folder.Add(prefix + norm + ".weight", {4}, norm[4] == '1' ? 10 : 30);
    folder.Add(prefix + norm + ".bias", {4}, norm[4] == '1' ? 20 : 40);
  }
}

TEST(TorchAttentionTest, ThePackedMatrixIsQueriesThenKeysThenValues) {
  FormatFolder folder;
  AddTorchAttention(folder, "");
  const auto model = folder.Read(ReadTorchAttention, R"({"num_heads": 2, "precision": "bf16"})");
  ASSERT_THAT(model, IsOk());
  const AttentionParameters& got = model->parameters.layers[0].attention;
  EXPECT_EQ(got.wq, TransposedFrom(100, 4, 4));
  EXPECT_EQ(got.wk, TransposedFrom(116, 4, 4));
  EXPECT_EQ(got.wv, TransposedFrom(132, 4, 4));
  EXPECT_EQ(got.bq, CountedFrom(200, 4));
  EXPECT_EQ(got.bk, CountedFrom(204, 4));
  EXPECT_EQ(got.bv, CountedFrom(208, 4));
  EXPECT_EQ(got.wo, TransposedFrom(300, 4, 4));
  EXPECT_EQ(got.bo, CountedFrom(400, 4));
  EXPECT_EQ(model->config.block.attention.embed_dim, 4);
  EXPECT_EQ(model->config.block.norm_placement, NormPlacement::kNone);
  EXPECT_EQ(model->precision, Precision::kBf16);
}

TEST(TorchAttentionTest, SeparateMatricesHaveWidthsOfTheirOwn) {
  FormatFolder folder;
  AddTorchAttention(folder, "");
  folder.Remove("in_proj_weight");
  folder.Add("q_proj_weight", {4, 4}, 1);
  folder.Add("k_proj_weight", {4, 3}, 2);
  folder.Add("v_proj_weight", {4, 5}, 3);
  const auto model = folder.Read(ReadTorchAttention, R"({"num_heads": 2})");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.kdim, 3);
  EXPECT_EQ(model->config.block.attention.vdim, 5);
  EXPECT_EQ(model->parameters.layers[0].attention.wk, TransposedFrom(2, 3, 4));
  EXPECT_EQ(model->parameters.layers[0].attention.wv, TransposedFrom(3, 5, 4));
  EXPECT_EQ(model->precision, std::nullopt);
}

TEST(TorchAttentionTest, WithoutBiasesThereAreNone) {
  FormatFolder folder;
  AddTorchAttention(folder, "");
  folder.Remove("in_proj_bias");
  folder.Remove("out_proj.bias");
  const auto model = folder.Read(ReadTorchAttention, R"({"num_heads": 2})");
  ASSERT_THAT(model, IsOk());
  EXPECT_TRUE(model->parameters.layers[0].attention.bq.empty());
  EXPECT_TRUE(model->parameters.layers[0].attention.bo.empty());
}

TEST(TorchAttentionTest, AppendedKeysAreFoundByTheirTensors) {
  FormatFolder folder;
  AddTorchAttention(folder, "");
  folder.Add("bias_k", {1, 1, 4}, 7);
  folder.Add("bias_v", {1, 1, 4}, 8);
  const auto model = folder.Read(ReadTorchAttention, R"({"num_heads": 2, "add_zero_attn": true})");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.block.attention.num_appended_keys(), 2);
  EXPECT_EQ(model->parameters.layers[0].attention.bias_k, CountedFrom(7, 4));
  EXPECT_EQ(model->parameters.layers[0].attention.bias_v, CountedFrom(8, 4));
}

TEST(TorchAttentionTest, APrefixTellsWhatStandsBeforeTheNames) {
  for (const char* prefix : {"encoder.attn", "encoder.attn."}) {
    FormatFolder folder;
    AddTorchAttention(folder, "encoder.attn.");
    folder.Add("decoder.weight", {2, 2});
    const auto model =
        folder.Read(ReadTorchAttention, std::string(R"({"num_heads": 2, "prefix": ")") + prefix + "\"}");
    ASSERT_THAT(model, IsOk());
    EXPECT_THAT(model->ignored, ElementsAre("decoder.weight"));
  }
}

TEST(TorchAttentionTest, OtherTensorsAreNoAttention) {
  FormatFolder folder;
  folder.Add("fc.weight", {2, 2});
  EXPECT_THAT(
      folder.Read(ReadTorchAttention, R"({"num_heads": 2})"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("no matrix in_proj_weight"), HasSubstr("its first tensor is fc.weight"))));
}

constexpr char kLayerConfig[] =
    R"({"num_heads": 2, "norm_first": false, "activation": "relu", "layer_norm_eps": 1e-5})";

TEST(TorchEncoderTest, AStackIsReadLayerByLayer) {
  FormatFolder folder;
  AddTorchLayer(folder, "layers.0.");
  AddTorchLayer(folder, "layers.1.");
  folder.Add("layers.1.linear1.weight", {6, 4}, 5000);
  folder.Add("norm.weight", {4}, 50);
  const auto model =
      folder.Read(ReadTorchEncoder,
                  R"({"num_heads": 2, "norm_first": true, "activation": "gelu", "layer_norm_eps": 0.5,
                      "final_norm_kind": "rms_norm", "final_norm_eps": 0.25})");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.num_layers, 2);
  EXPECT_EQ(model->config.block.norm_placement, NormPlacement::kPre);
  EXPECT_EQ(model->config.block.norm_eps, 0.5);
  EXPECT_EQ(model->config.block.feed_forward.hidden_dim, 6);
  EXPECT_EQ(model->config.block.feed_forward.activation, Activation::kGeluErf);
  EXPECT_TRUE(model->config.final_norm);
  EXPECT_EQ(model->config.final_norm_kind, NormKind::kRmsNorm);
  EXPECT_EQ(model->config.final_norm_eps, 0.25);
  const auto& layers = model->parameters.layers;
  EXPECT_EQ(layers[0].feed_forward.up, TransposedFrom(500, 4, 6));
  EXPECT_EQ(layers[1].feed_forward.up, TransposedFrom(5000, 4, 6));
  EXPECT_EQ(layers[0].feed_forward.down, TransposedFrom(700, 6, 4));
  EXPECT_EQ(layers[0].feed_forward.up_bias, CountedFrom(600, 6));
  EXPECT_EQ(layers[0].feed_forward.down_bias, CountedFrom(800, 4));
  EXPECT_EQ(layers[0].attention_norm.gain, CountedFrom(10, 4));
  EXPECT_EQ(layers[0].attention_norm.bias, CountedFrom(20, 4));
  EXPECT_EQ(layers[0].feed_forward_norm.gain, CountedFrom(30, 4));
  EXPECT_EQ(layers[1].feed_forward_norm.bias, CountedFrom(40, 4));
  EXPECT_EQ(model->parameters.final_norm.gain, CountedFrom(50, 4));
  EXPECT_TRUE(model->parameters.final_norm.bias.empty());
}

TEST(TorchEncoderTest, ASingleLayerHasNoNumber) {
  FormatFolder folder;
  AddTorchLayer(folder, "");
  const auto model = folder.Read(ReadTorchEncoder, kLayerConfig);
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.num_layers, 1);
  EXPECT_EQ(model->config.block.norm_placement, NormPlacement::kPost);
  EXPECT_EQ(model->config.block.feed_forward.activation, Activation::kRelu);
  EXPECT_FALSE(model->config.final_norm);
}

TEST(TorchEncoderTest, ALayerThatIsNotThereIsMissing) {
  FormatFolder folder;
  AddTorchLayer(folder, "layers.0.");
  AddTorchLayer(folder, "layers.2.");
  EXPECT_THAT(folder.Read(ReadTorchEncoder, kLayerConfig),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("missing: layers.1.linear2.weight, expected [4, 6]")));
}

TEST(TorchEncoderTest, NamesOfTooManyLayersAreRefused) {
  FormatFolder folder;
  AddTorchLayer(folder, "layers.0.");
  folder.Add("layers.99999999.norm1.weight", {4});
  EXPECT_THAT(folder.Read(ReadTorchEncoder, kLayerConfig),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("names of layer 99999999, served are 1024 layers")));
}

TEST(TorchEncoderTest, WithoutAFeedForwardNetworkItIsNone) {
  FormatFolder folder;
  AddTorchAttention(folder, "self_attn.");
  EXPECT_THAT(folder.Read(ReadTorchEncoder, kLayerConfig),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no matrix linear1.weight")));
}

TEST(TorchEncoderTest, KeysThatItDoesNotKnowAreRefused) {
  FormatFolder folder;
  AddTorchLayer(folder, "");
  EXPECT_THAT(folder.Read(ReadTorchEncoder, R"({"num_heads": 2, "nhead": 2})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"nhead\": unknown key")));
}

TEST(TorchEncoderTest, WhatTensorsDoNotTellIsAskedFor) {
  FormatFolder folder;
  AddTorchLayer(folder, "layers.0.");
  folder.Add("norm.weight", {4}, 50);
  EXPECT_THAT(folder.Read(ReadTorchEncoder, R"({"num_heads": 2})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("norm_first: missing"), HasSubstr("activation: missing"),
                             HasSubstr("layer_norm_eps: missing"), HasSubstr("final_norm_kind: missing"),
                             HasSubstr("final_norm_eps: missing"))));
}

TEST(TorchEncoderTest, ABiasTellsWhichNormItIs) {
  FormatFolder folder;
  AddTorchLayer(folder, "layers.0.");
  folder.Add("norm.weight", {4}, 50);
  folder.Add("norm.bias", {4}, 60);
  const std::string config =
      R"({"num_heads": 2, "norm_first": false, "activation": "relu", "layer_norm_eps": 1e-5, "final_norm_eps": 0.25)";
  const auto model = folder.Read(ReadTorchEncoder, config + "}");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.final_norm_kind, NormKind::kLayerNorm);
  EXPECT_EQ(model->config.final_norm_eps, 0.25);
  EXPECT_THAT(folder.Read(ReadTorchEncoder, config + R"(, "final_norm_kind": "rms_norm"})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the norm has a bias")));
}

TEST(TorchEncoderTest, APrefixMayNameWhatIsTakenOffAllNames) {
  FormatFolder folder;
  AddTorchLayer(folder, "module.encoder.");
  for (const char* prefix : {"module.encoder", "encoder"}) {
    EXPECT_THAT(folder.Read(ReadTorchEncoder, absl::StrCat(R"({"prefix": ")", prefix, R"(", "num_heads": 2,
        "norm_first": false, "activation": "relu", "layer_norm_eps": 1e-5})")),
                IsOk());
  }
}

}  // namespace
}  // namespace headlight
