// SPDX-License-Identifier: Apache-2.0
//
// BERT, RoBERTa and DistilBERT as transformers saves them.
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
using testing::TransposedFrom;

constexpr char kBertKeys[] = R"("hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1,
    "intermediate_size": 6, "vocab_size": 5, "max_position_embeddings": 7, "type_vocab_size": 2)";

std::string BertConfig(const std::string& more) { return absl::StrCat("{", kBertKeys, more, "}"); }

void AddBertLinear(FormatFolder& folder, const std::string& name, int64_t in, int64_t out, float first) {
  folder.Add(name + ".weight", {out, in}, first);
  folder.Add(name + ".bias", {out}, first + 50);
}

void AddBertNorm(FormatFolder& folder, const std::string& name, float first) {
  folder.Add(name + ".weight", {4}, first);
  folder.Add(name + ".bias", {4}, first + 50);
}

void AddBert(FormatFolder& folder) {
  folder.Add("embeddings.word_embeddings.weight", {5, 4}, 1000);
  folder.Add("embeddings.position_embeddings.weight", {7, 4}, 1100);
  folder.Add("embeddings.token_type_embeddings.weight", {2, 4}, 1200);
  AddBertNorm(folder, "embeddings.LayerNorm", 1300);
  const std::string layer = "encoder.layer.0.";
  AddBertLinear(folder, layer + "attention.self.query", 4, 4, 100);
  AddBertLinear(folder, layer + "attention.self.key", 4, 4, 200);
  AddBertLinear(folder, layer + "attention.self.value", 4, 4, 300);
  AddBertLinear(folder, layer + "attention.output.dense", 4, 4, 400);
  AddBertNorm(folder, layer + "attention.output.LayerNorm", 500);
  AddBertLinear(folder, layer + "intermediate.dense", 4, 6, 600);
  AddBertLinear(folder, layer + "output.dense", 6, 4, 700);
  AddBertNorm(folder, layer + "output.LayerNorm", 800);
}

// What is in the folders above and below, by whatever names.
void ExpectBertBlock(const BlockParameters& block) {
  EXPECT_EQ(block.attention.wq, TransposedFrom(100, 4, 4));
  EXPECT_EQ(block.attention.bq, CountedFrom(150, 4));
  EXPECT_EQ(block.attention.wk, TransposedFrom(200, 4, 4));
  EXPECT_EQ(block.attention.bk, CountedFrom(250, 4));
  EXPECT_EQ(block.attention.wv, TransposedFrom(300, 4, 4));
  EXPECT_EQ(block.attention.bv, CountedFrom(350, 4));
  EXPECT_EQ(block.attention.wo, TransposedFrom(400, 4, 4));
  EXPECT_EQ(block.attention.bo, CountedFrom(450, 4));
  EXPECT_EQ(block.attention_norm.gain, CountedFrom(500, 4));
  EXPECT_EQ(block.attention_norm.bias, CountedFrom(550, 4));
  EXPECT_EQ(block.feed_forward.up, TransposedFrom(600, 4, 6));
  EXPECT_EQ(block.feed_forward.up_bias, CountedFrom(650, 6));
  EXPECT_EQ(block.feed_forward.down, TransposedFrom(700, 6, 4));
  EXPECT_EQ(block.feed_forward.down_bias, CountedFrom(750, 4));
  EXPECT_EQ(block.feed_forward_norm.gain, CountedFrom(800, 4));
  EXPECT_EQ(block.feed_forward_norm.bias, CountedFrom(850, 4));
}

TEST(BertTest, EachTensorGoesToItsPlace) {
  FormatFolder folder;
  AddBert(folder);
  const auto model = folder.Read(ReadBert, BertConfig(""));
  ASSERT_THAT(model, IsOk());
  ExpectBertBlock(model->parameters.layers[0]);
  const EmbeddingParameters& embedding = model->parameters.embedding;
  EXPECT_EQ(embedding.tokens, CountedFrom(1000, 20));
  EXPECT_EQ(embedding.positions, CountedFrom(1100, 28));
  EXPECT_EQ(embedding.token_types, CountedFrom(1200, 8));
  EXPECT_EQ(embedding.norm.gain, CountedFrom(1300, 4));
  EXPECT_EQ(embedding.norm.bias, CountedFrom(1350, 4));
}

TEST(BertTest, IsAPostNormEncoderThatSeesBothWays) {
  FormatFolder folder;
  AddBert(folder);
  const auto model = folder.Read(ReadBert, BertConfig(""));
  ASSERT_THAT(model, IsOk());
  const ModelConfig& config = model->config;
  EXPECT_EQ(config.block.norm_placement, NormPlacement::kPost);
  EXPECT_EQ(config.block.norm_kind, NormKind::kLayerNorm);
  EXPECT_EQ(config.block.norm_eps, 1e-12);
  EXPECT_EQ(config.block.feed_forward.activation, Activation::kGeluErf);
  EXPECT_FALSE(config.block.feed_forward.gated);
  EXPECT_FALSE(config.causal);
  EXPECT_FALSE(config.final_norm);
  EXPECT_EQ(config.embedding->position_offset, 0);
  EXPECT_EQ(config.embedding->padding_id, std::nullopt);
}

TEST(BertTest, UnderAPrefixHeadsAndPoolerAreLeftAside) {
  FormatFolder folder;
  AddBert(folder);
  folder.Add("pooler.dense.weight", {4, 4});
  folder.Add("embeddings.position_ids", {1, 7});
  folder.Prefix("bert.");
  folder.Add("cls.predictions.bias", {5});
  const auto model = folder.Read(ReadBert, BertConfig(""));
  ASSERT_THAT(model, IsOk());
  ExpectBertBlock(model->parameters.layers[0]);
  EXPECT_THAT(model->ignored, ElementsAre("bert.embeddings.position_ids", "bert.pooler.dense.weight",
                                          "cls.predictions.bias"));
}

TEST(BertTest, NamesOfOldLayerNormsAreUnderstood) {
  FormatFolder folder;
  AddBert(folder);
  folder.Remove("encoder.layer.0.output.LayerNorm.weight");
  folder.Remove("encoder.layer.0.output.LayerNorm.bias");
  folder.Add("encoder.layer.0.output.LayerNorm.gamma", {4}, 800);
  folder.Add("encoder.layer.0.output.LayerNorm.beta", {4}, 850);
  const auto model = folder.Read(ReadBert, BertConfig(""));
  ASSERT_THAT(model, IsOk());
  ExpectBertBlock(model->parameters.layers[0]);
}

TEST(RobertaTest, CountsPositionsFromTheRowAfterPaddings) {
  FormatFolder folder;
  AddBert(folder);
  folder.Prefix("roberta.");
  auto model = folder.Read(ReadRoberta, BertConfig(""));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.embedding->padding_id, 1);
  EXPECT_EQ(model->config.embedding->position_offset, 2);
  model = folder.Read(ReadRoberta, BertConfig(R"(, "pad_token_id": 3)"));
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.embedding->padding_id, 3);
  EXPECT_EQ(model->config.embedding->position_offset, 4);
  ExpectBertBlock(model->parameters.layers[0]);
}

TEST(DistilBertTest, HasNamesOfItsOwnAndNoTokenTypes) {
  FormatFolder folder;
  folder.Add("embeddings.word_embeddings.weight", {5, 4}, 1000);
  folder.Add("embeddings.position_embeddings.weight", {7, 4}, 1100);
  AddBertNorm(folder, "embeddings.LayerNorm", 1300);
  const std::string layer = "transformer.layer.0.";
  AddBertLinear(folder, layer + "attention.q_lin", 4, 4, 100);
  AddBertLinear(folder, layer + "attention.k_lin", 4, 4, 200);
  AddBertLinear(folder, layer + "attention.v_lin", 4, 4, 300);
  AddBertLinear(folder, layer + "attention.out_lin", 4, 4, 400);
  AddBertNorm(folder, layer + "sa_layer_norm", 500);
  AddBertLinear(folder, layer + "ffn.lin1", 4, 6, 600);
  AddBertLinear(folder, layer + "ffn.lin2", 6, 4, 700);
  AddBertNorm(folder, layer + "output_layer_norm", 800);
  const auto model = folder.Read(ReadDistilBert, R"({"dim": 4, "n_heads": 2, "n_layers": 1, "hidden_dim": 6,
      "vocab_size": 5, "max_position_embeddings": 7})");
  ASSERT_THAT(model, IsOk());
  ExpectBertBlock(model->parameters.layers[0]);
  EXPECT_EQ(model->config.embedding->num_token_types, 0);
  EXPECT_EQ(model->config.block.norm_placement, NormPlacement::kPost);
}

TEST(BertTest, OptionsThatChangeWhatIsComputedAreRefused) {
  FormatFolder folder;
  AddBert(folder);
  EXPECT_THAT(folder.Read(ReadBert, BertConfig(R"(, "position_embedding_type": "relative_key")")),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("position_embedding_type")));
  EXPECT_THAT(folder.Read(ReadBert, BertConfig(R"(, "hidden_act": "mish")")),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("hidden_act: got \"mish\"")));
}

TEST(BertTest, AbsentKeysAreWhatTheClassSays) {
  FormatFolder folder;
  AddBert(folder);
  ConfigFields fields = folder.Fields("{}").value();
  const ModelConfig config = ReadBert(fields, folder.Checkpoint().value()).config;
  EXPECT_THAT(fields.status(), IsOk());
  EXPECT_EQ(config.block.attention.embed_dim, 768);
  EXPECT_EQ(config.block.attention.num_heads, 12);
  EXPECT_EQ(config.num_layers, 12);
  EXPECT_EQ(config.block.feed_forward.hidden_dim, 3072);
  EXPECT_EQ(config.block.norm_eps, 1e-12);
  EXPECT_EQ(config.embedding->vocab_size, 30522);
}

TEST(BertTest, OnlyADecodersMaskAsksWhetherItIsCausal) {
  FormatFolder folder;
  AddBert(folder);
  EXPECT_THAT(folder.Read(ReadBert, BertConfig(R"(, "is_causal": false)")), IsOk());
  EXPECT_THAT(folder.Read(ReadBert, BertConfig(R"(, "is_causal": false, "is_decoder": true)")),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("is_causal")));
}

TEST(RobertaTest, WithoutAPaddingIdPositionsCannotBeCounted) {
  FormatFolder folder;
  AddBert(folder);
  EXPECT_THAT(folder.Read(ReadRoberta, BertConfig(R"(, "pad_token_id": null)")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("pad_token_id: got null")));
}

}  // namespace
}  // namespace headlight
