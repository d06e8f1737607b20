// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/checkpoint/formats/format.h"
#include "core/checkpoint/safetensors_writer.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_folder.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;

constexpr char kTransformer[] = R"({"type": "sentence_transformers.models.Transformer", "path": ""})";
constexpr char kPooling[] = R"({"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"})";
constexpr char kNormalize[] = R"({"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"})";

class SentenceTransformersTest : public ::testing::Test {
 protected:
  absl::Status Read() {
    format_ = Format();
    format_.config.block.attention.embed_dim = 8;
    format_.config.pooling.clear();
    format_.config.no_pooling = "no file says how";
    return ReadSentenceTransformers(folder_.path(), folder_.path(), format_);
  }
  void WriteModules(const std::vector<std::string>& modules) const {
    std::string list = "[";
    for (const std::string& module : modules) list += (list.size() > 1 ? ", " : "") + module;
    folder_.Write("modules.json", list + "]");
  }
  // With this module Pooling.
  void ExpectPooling(const std::string& config, const std::vector<Pooling>& poolings) {
    WriteModules({kTransformer, kPooling});
    folder_.Write("1_Pooling/config.json", config);
    EXPECT_THAT(Read(), IsOk()) << config;
    EXPECT_EQ(format_.config.pooling, poolings) << config;
    EXPECT_EQ(format_.config.no_pooling, "");
  }
  void ExpectNoPooling(const std::string& reason) {
    EXPECT_THAT(Read(), IsOk()) << "hidden states are served";
    EXPECT_THAT(format_.config.pooling, IsEmpty());
    EXPECT_THAT(format_.config.no_pooling, HasSubstr(reason));
  }

  const testing::TempFolder folder_;
  Format format_;
};

TEST_F(SentenceTransformersTest, AFolderOfAnotherKindIsLeftAlone) {
  ExpectNoPooling("no file says how");
  EXPECT_FALSE(format_.config.normalize_pooled);
}

TEST_F(SentenceTransformersTest, TheModeIsASwitchOrAName) {
  ExpectPooling(R"({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true})", {Pooling::kMean});
  ExpectPooling(R"({"pooling_mode": "cls"})", {Pooling::kCls});
  for (const auto& [new_name, old_name, pooling] :
       {std::tuple("cls", "cls_token", Pooling::kCls), std::tuple("mean", "mean_tokens", Pooling::kMean),
        std::tuple("max", "max_tokens", Pooling::kMax),
        std::tuple("mean_sqrt_len_tokens", "mean_sqrt_len_tokens", Pooling::kMeanSqrtLen),
        std::tuple("weightedmean", "weightedmean_tokens", Pooling::kWeightedMean),
        std::tuple("lasttoken", "lasttoken", Pooling::kLast)}) {
    ExpectPooling(std::string(R"({"pooling_mode": ")") + new_name + "\"}", {pooling});
    ExpectPooling(std::string(R"({"pooling_mode_)") + old_name + "\": true}", {pooling});
  }
}

TEST_F(SentenceTransformersTest, SeveralModesStandInTheOrderOfTheLibrary) {
  ExpectPooling(R"({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true})",
                {Pooling::kCls, Pooling::kMean});
  ExpectPooling(R"({"pooling_mode": ["mean", "cls"]})", {Pooling::kMean, Pooling::kCls});
  ExpectPooling(R"({"pooling_mode": "max", "pooling_mode_cls_token": true})", {Pooling::kMax});
}

TEST_F(SentenceTransformersTest, WithoutAModeItIsTheLibrarysOwn) {
  ExpectPooling("{}", {Pooling::kMean});
  ExpectPooling(R"({"pooling_mode_mean_tokens": false})", {Pooling::kMean});
}

TEST_F(SentenceTransformersTest, WithoutAListThePoolingLiesInItsUsualPlace) {
  folder_.Write("1_Pooling/config.json", R"({"pooling_mode_cls_token": true})");
  EXPECT_THAT(Read(), IsOk());
  EXPECT_THAT(format_.config.pooling, ElementsAre(Pooling::kCls));
}

TEST_F(SentenceTransformersTest, NormalizingIsAModule) {
  folder_.Write("1_Pooling/config.json", "{}");
  WriteModules({kTransformer, kPooling, kNormalize});
  EXPECT_THAT(Read(), IsOk());
  EXPECT_TRUE(format_.config.normalize_pooled);
  EXPECT_THAT(format_.config.pooling, ElementsAre(Pooling::kMean));
  folder_.Write("2_Normalize/config.json", R"({"module_input_name": "token_embeddings"})");
  ExpectNoPooling("module_input_name: got \"token_embeddings\"");
  WriteModules({kTransformer, kNormalize, kPooling});
  ExpectNoPooling("Normalize before Pooling");
}

TEST_F(SentenceTransformersTest, WhatIsNotServedIsSaidToWhoAsksForPooling) {
  WriteModules({kTransformer, kPooling});
  folder_.Write("1_Pooling/config.json", R"({"pooling_mode": "attention"})");
  ExpectNoPooling("pooling_mode: got \"attention\"");
  folder_.Write("1_Pooling/config.json", R"({"pooling_mode": "mean", "include_prompt": false})");
  ExpectNoPooling("include_prompt: got false");
  folder_.Write("1_Pooling/config.json", R"({"pooling_mode": "mean"})");
  WriteModules(
      {kTransformer, kPooling, R"({"type": "sentence_transformers.models.WordWeights", "path": "2_Words"})"});
  ExpectNoPooling("got a module \"WordWeights\"");
  WriteModules({kTransformer, kPooling, kPooling});
  ExpectNoPooling("several modules Pooling");
  WriteModules({kTransformer});
  ExpectNoPooling("got no module Pooling");
  WriteModules({kTransformer, kPooling});
  folder_.Write("config_sentence_transformers.json", R"({"truncate_dim": 5})");
  ExpectNoPooling("truncate_dim");
}

TEST_F(SentenceTransformersTest, ACrossEncoderNamesTheActivationOfItsScores) {
  WriteModules({kTransformer});
  folder_.Write("sentence_bert_config.json", R"({"transformer_task": "sequence-classification",
      "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
      "module_output_name": "scores"})");
  const auto read = [&](const std::string& config) {
    folder_.Write("config_sentence_transformers.json", config);
    format_ = Format();
    format_.config.heads.heads = {
        {.kind = HeadKind::kScores, .steps = {{.in_dim = 8, .out_dim = 1}}, .silent_ids = {}}};
    EXPECT_THAT(ReadSentenceTransformers(folder_.path(), folder_.path(), format_), IsOk());
    EXPECT_THAT(format_.not_understood, IsEmpty());
    return format_.config.heads.heads[0].steps[0].activation;
  };
  EXPECT_EQ(read("{}"), RowActivation::kIdentity);
  EXPECT_EQ(read(R"({"activation_fn": "torch.nn.modules.activation.Sigmoid", "model_type": "CrossEncoder"})"),
            RowActivation::kSigmoid);
  read(R"({"activation_fn": "torch.nn.modules.activation.Softplus"})");
  EXPECT_THAT(format_.config.heads.WhyNot(OutputKind::kScores),
              HasSubstr("config_sentence_transformers.json: activation_fn: got"));
}

constexpr char kDense[] = R"({"type": "sentence_transformers.models.Dense", "path": "2_Dense"})";
constexpr char kDenseConfig[] = R"({"in_features": 8, "out_features": 3, "bias": true,
                                    "activation_function": "torch.nn.modules.activation.Tanh"})";

TEST_F(SentenceTransformersTest, DenseIsAStepOfPooledVectors) {
  folder_.Write("1_Pooling/config.json", "{}");
  folder_.Write("2_Dense/config.json", kDenseConfig);
  WriteModules({kTransformer, kPooling, kNormalize, kDense, kNormalize});
  ExpectNoPooling("2_Dense: got no model.safetensors, wanted one; pytorch_model.bin");
  EXPECT_THAT(format_.config.pooled_steps, IsEmpty());
  const std::vector<float> numbers(8 * 3, 0.5f);
  ASSERT_THAT(
      WriteSafetensors(folder_.path() + "/2_Dense/model.safetensors",
                       {{"linear.weight", {{3, 8}, numbers.data()}}, {"linear.bias", {{3}, numbers.data()}}}),
      IsOk());
  EXPECT_THAT(Read(), IsOk());
  ASSERT_EQ(format_.config.pooled_steps.size(), 2u);
  EXPECT_EQ(format_.config.pooled_steps[0].kind, RowStep::Kind::kNormalize);
  EXPECT_EQ(format_.config.pooled_steps[1],
            (RowStep{.in_dim = 8, .out_dim = 3, .activation = RowActivation::kTanh}));
  EXPECT_EQ(format_.config.pooled_dim(), 3);
  EXPECT_TRUE(format_.config.normalize_pooled) << "the last Normalize follows the cut";
  ASSERT_EQ(format_.pooled_steps.size(), 2u);
  EXPECT_NE(format_.pooled_steps[1].files, nullptr);
  folder_.Write("2_Dense/config.json", R"({"in_features": 7, "out_features": 3, "activation_function":
                                           "torch.nn.modules.linear.Identity"})");
  ExpectNoPooling("2_Dense/config.json: in_features: got 7, wanted 8");
  folder_.Write("2_Dense/config.json",
                R"({"in_features": 8, "out_features": 3, "activation_function": "mine"})");
  ExpectNoPooling("activation_function: got \"mine\"");
  folder_.Write("2_Dense/config.json", kDenseConfig);
  WriteModules({kTransformer, kDense, kPooling});
  ExpectNoPooling("Dense before Pooling");
  WriteModules({kTransformer, kDense});
  ExpectNoPooling("got no module Pooling");
  ASSERT_EQ(format_.config.heads.heads.size(), 1u) << "vectors of tokens";
  EXPECT_EQ(format_.config.heads.heads[0].kind, HeadKind::kTokenVectors);
}

TEST_F(SentenceTransformersTest, KeysThatNobodyKnowsAreReported) {
  WriteModules({kTransformer, kPooling});
  folder_.Write("1_Pooling/config.json", R"({"word_embedding_dimension": 8, "temperature": 2})");
  folder_.Write("sentence_bert_config.json", R"({"max_seq_length": 8, "model_args": {}})");
  folder_.Write("config_sentence_transformers.json", R"({"prompts": {}, "sparsity": 0.5})");
  EXPECT_THAT(Read(), IsOk());
  EXPECT_THAT(format_.not_understood,
              ElementsAre("sentence_bert_config.json: model_args", "1_Pooling/config.json: temperature",
                          "config_sentence_transformers.json: sparsity"));
  EXPECT_THAT(format_.assumed, ElementsAre(HasSubstr("texts are cut to 8 tokens")));
}

TEST_F(SentenceTransformersTest, OurOwnKeyGoesBefore) {
  WriteModules({kTransformer, kPooling});
  folder_.Write("1_Pooling/config.json", R"({"pooling_mode": "mean"})");
  format_.config.pooling = {Pooling::kLast};
  format_.says_pooling = true;
  EXPECT_THAT(ReadSentenceTransformers(folder_.path(), folder_.path(), format_), IsOk());
  EXPECT_THAT(format_.config.pooling, ElementsAre(Pooling::kLast));
}

TEST_F(SentenceTransformersTest, TheListSaysWhereTheEncoderIs) {
  EXPECT_EQ(*SentenceTransformersEncoder(folder_.path()), "");
  WriteModules({R"({"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"})"});
  EXPECT_EQ(*SentenceTransformersEncoder(folder_.path()), "0_Transformer");
  WriteModules({kPooling});
  EXPECT_THAT(SentenceTransformersEncoder(folder_.path()),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no module Transformer")));
}

TEST_F(SentenceTransformersTest, APathThatLeavesTheFolderIsRefused) {
  for (const char* path : {"../other", "/etc", "1_Pooling/../../x"}) {
    WriteModules(
        {std::string(R"({"type": "sentence_transformers.models.Pooling", "path": ")") + path + "\"}"});
    EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("leaves the folder"))) << path;
  }
}

TEST_F(SentenceTransformersTest, AListThatIsNoneIsRefused) {
  folder_.Write("modules.json", "{}");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wanted a JSON array")));
}

}  // namespace
}  // namespace headlight
