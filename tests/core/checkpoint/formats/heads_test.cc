// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/heads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using testing::FormatFolder;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using testing::StatusIs;

constexpr char kSmallSizes[] = R"({"hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1,
    "intermediate_size": 6, "vocab_size": 5, "max_position_embeddings": 7, "type_vocab_size": 1)";

class HeadsTest : public ::testing::Test {
 protected:
  void AddLinear(const std::string& name, int64_t in, int64_t out) {
    folder_.Add(name + ".weight", {out, in});
    folder_.Add(name + ".bias", {out});
  }
  // What the reader makes of what the folder has of heads.
  HeadsConfig Heads(FormatReader read, const std::string& more) {
    ConfigFields fields = folder_.Fields(absl::StrCat(kSmallSizes, more, "}")).value();
    Format format = read(fields, folder_.Checkpoint().value());
    EXPECT_THAT(fields.status(), IsOk());
    ReadHeadKeys(fields, format);
    EXPECT_EQ(format.heads.size(), format.config.heads.heads.size());
    return format.config.heads;
  }

  FormatFolder folder_;
};

TEST_F(HeadsTest, AClassifierOfBertIsWhatArchitecturesSay) {
  AddLinear("bert.pooler.dense", 4, 4);
  AddLinear("classifier", 4, 3);
  HeadsConfig heads = Heads(ReadBert, R"(, "architectures": ["BertForSequenceClassification"],
                                         "id2label": {"1": "b", "0": "a", "2": "c"})");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].kind, HeadKind::kScores);
  EXPECT_EQ(heads.heads[0].steps[0].activation, RowActivation::kTanh);
  EXPECT_EQ(heads.Width(OutputKind::kScores, 4, 5), 3);
  EXPECT_THAT(heads.labels, ElementsAre("a", "b", "c"));
  heads = Heads(ReadBert, R"(, "architectures": ["BertForTokenClassification"], "id2label": {"0": "a"})");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].kind, HeadKind::kTokenScores);
  EXPECT_THAT(heads.labels, IsEmpty()) << "one name for three numbers";
  heads = Heads(ReadBert, R"(, "architectures": ["BertForMultipleChoice"])");
  EXPECT_THAT(heads.heads, IsEmpty());
  EXPECT_THAT(heads.refused, IsEmpty()) << "there is no doubt";
  heads = Heads(ReadBert, "");
  EXPECT_THAT(heads.heads, IsEmpty());
  EXPECT_THAT(heads.WhyNot(OutputKind::kScores),
              HasSubstr("architectures: got none, wanted ...ForSequenceClassification"));
}

TEST_F(HeadsTest, AnIncompleteHeadIsRefusedWithItsReason) {
  AddLinear("classifier", 4, 3);  // and no pooler before it
  const HeadsConfig heads = Heads(ReadBert, R"(, "architectures": ["BertForSequenceClassification"])");
  EXPECT_THAT(heads.heads, IsEmpty());
  EXPECT_THAT(heads.WhyNot(OutputKind::kScores), HasSubstr("missing: pooler.dense.weight"));
  EXPECT_EQ(heads.WhyNot(OutputKind::kSparse), "its files have no such head");
}

TEST_F(HeadsTest, AMaskedLanguageModelIsTiedOrHasATableOfItsOwn) {
  AddLinear("cls.predictions.transform.dense", 4, 4);
  folder_.Add("cls.predictions.transform.LayerNorm.gamma", {4});
  folder_.Add("cls.predictions.transform.LayerNorm.beta", {4});
  folder_.Add("cls.predictions.bias", {5});
  HeadsConfig heads = Heads(ReadBert, "");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].kind, HeadKind::kLanguageModel);
  EXPECT_TRUE(heads.heads[0].tied);
  EXPECT_TRUE(heads.heads[0].vocab_bias);
  EXPECT_EQ(heads.heads[0].steps[0].activation, RowActivation::kGeluErf);
  EXPECT_EQ(heads.heads[0].steps[1].eps, 1e-12);
  heads = Heads(ReadBert, R"(, "tie_word_embeddings": false)");
  EXPECT_THAT(heads.WhyNot(OutputKind::kTokenLogits), HasSubstr("missing: cls.predictions.decoder.weight"));
  folder_.Add("cls.predictions.decoder.weight", {5, 4});
  heads = Heads(ReadBert, R"(, "tie_word_embeddings": false)");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_FALSE(heads.heads[0].tied);
}

TEST_F(HeadsTest, ClassifiersOfRobertasKindDifferInTheirActivation) {
  AddLinear("classifier.dense", 4, 4);
  AddLinear("classifier.out_proj", 4, 3);
  for (const auto& [read, activation] :
       {std::pair(&ReadRoberta, RowActivation::kTanh), std::pair(&ReadMpnet, RowActivation::kTanh),
        std::pair(&ReadElectra, RowActivation::kGeluErf)}) {
    const HeadsConfig heads = Heads(read, R"(, "hidden_act": "relu")");
    ASSERT_EQ(heads.heads.size(), 1u);
    EXPECT_EQ(heads.heads[0].kind, HeadKind::kScores);
    EXPECT_EQ(heads.heads[0].steps[0].activation, activation);
    EXPECT_EQ(heads.heads[0].steps[1].out_dim, 3);
  }
}

TEST_F(HeadsTest, ATableThatIsNarrowerThanTheLayersIsTiedAtItsOwnWidth) {
  AddLinear("generator_predictions.dense", 4, 3);
  AddLinear("predictions.dense", 4, 3);
  for (const char* norm : {"generator_predictions.LayerNorm", "predictions.LayerNorm"}) {
    folder_.Add(absl::StrCat(norm, ".weight"), {3});
    folder_.Add(absl::StrCat(norm, ".bias"), {3});
  }
  for (const FormatReader read : {ReadElectra, ReadAlbert}) {
    HeadsConfig heads = Heads(read, R"(, "embedding_size": 3)");
    ASSERT_EQ(heads.heads.size(), 1u);
    EXPECT_EQ(heads.heads[0].kind, HeadKind::kLanguageModel);
    EXPECT_TRUE(heads.heads[0].tied);
    EXPECT_FALSE(heads.heads[0].vocab_bias);
    heads = Heads(read, R"(, "embedding_size": 4)");
    EXPECT_THAT(heads.WhyNot(OutputKind::kSparse), HasSubstr("got 3 columns, wanted 4, those of the table"));
  }
}

TEST_F(HeadsTest, HeadsOfModernBertAreWhatItsKeysSay) {
  AddLinear("head.dense", 4, 4);
  folder_.Add("head.norm.weight", {4});
  AddLinear("classifier", 4, 2);
  HeadsConfig heads = Heads(ReadModernBert, R"(, "architectures": ["ModernBertForSequenceClassification"],
      "classifier_pooling": "mean", "classifier_activation": "tanh")");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].scores_of, ScoresOf::kMean);
  EXPECT_EQ(heads.heads[0].steps[0].activation, RowActivation::kTanh);
  EXPECT_FALSE(heads.heads[0].steps[0].bias) << "the class reads none without classifier_bias";
  EXPECT_FALSE(heads.heads[0].steps[1].bias);
  heads = Heads(ReadModernBert, R"(, "architectures": ["ModernBertForSequenceClassification"],
      "classifier_activation": "mish")");
  EXPECT_THAT(heads.WhyNot(OutputKind::kScores), HasSubstr("classifier_activation: got \"mish\""));
  heads = Heads(ReadModernBert, R"(, "architectures": ["ModernBertForTokenClassification"],
      "classifier_bias": true)");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].kind, HeadKind::kTokenScores);
  EXPECT_TRUE(heads.heads[0].steps[0].bias);
  folder_.Remove("classifier.weight");
  heads = Heads(ReadModernBert, "");
  EXPECT_THAT(heads.WhyNot(OutputKind::kSparse), HasSubstr("missing: decoder.bias"));
  heads = Heads(ReadModernBert, R"(, "decoder_bias": false)");
  EXPECT_NE(heads.Find(OutputKind::kSparse), nullptr);
}

TEST_F(HeadsTest, OfDebertasLanguageModelsThatOfItsFormIsServed) {
  AddLinear("lm_predictions.lm_head.dense", 4, 4);
  AddLinear("lm_predictions.lm_head.LayerNorm", 4, 4);
  folder_.Add("lm_predictions.lm_head.LayerNorm.weight", {4});
  folder_.Add("lm_predictions.lm_head.bias", {5});
  EXPECT_THAT(Heads(ReadDebertaV2, "").WhyNot(OutputKind::kTokenLogits),
              HasSubstr("legacy: got true, wanted false for lm_predictions.lm_head"));
  const HeadsConfig heads = Heads(ReadDebertaV2, R"(, "legacy": false, "tie_word_embeddings": false)");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_TRUE(heads.heads[0].tied);
}

TEST_F(HeadsTest, ThePoolerOfDebertaHasAnActivationOfItsOwn) {
  AddLinear("pooler.dense", 4, 4);
  AddLinear("classifier", 4, 2);
  const HeadsConfig heads = Heads(ReadDebertaV2, R"(, "architectures": ["DebertaV2ForSequenceClassification"],
      "pooler_hidden_act": "relu", "hidden_act": "silu")");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].steps[0].activation, RowActivation::kRelu);
}

TEST_F(HeadsTest, ScoresOfADecoderAreOfTheLastTokenOrOfEach) {
  folder_.Add("score.weight", {3, 4});
  HeadsConfig heads = Heads(ReadLlama, R"(, "architectures": ["LlamaForSequenceClassification"])");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].kind, HeadKind::kScores);
  EXPECT_EQ(heads.heads[0].scores_of, ScoresOf::kLastToken);
  heads = Heads(ReadQwen3, R"(, "architectures": ["Qwen3ForTokenClassification"])");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].kind, HeadKind::kTokenScores);
  EXPECT_THAT(Heads(ReadLlama, "").WhyNot(OutputKind::kScores), HasSubstr("architectures: got none"));
}

TEST_F(HeadsTest, ACausalLanguageModelGivesLogitsAndNoSparseVectors) {
  EXPECT_THAT(Heads(ReadLlama, R"(, "tie_word_embeddings": true)").heads, IsEmpty());
  HeadsConfig heads =
      Heads(ReadLlama, R"(, "tie_word_embeddings": true, "architectures": ["LlamaForCausalLM"])");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_TRUE(heads.heads[0].tied);
  EXPECT_THAT(heads.heads[0].steps, IsEmpty());
  EXPECT_EQ(heads.Width(OutputKind::kTokenLogits, 4, 5), 5);
  EXPECT_EQ(heads.Find(OutputKind::kSparse), nullptr);
  EXPECT_THAT(heads.WhyNot(OutputKind::kSparse), HasSubstr("causal"));
  heads = Heads(ReadGptNeoX, R"(, "rotary_pct": 1.0, "architectures": ["GPTNeoXForCausalLM"])");
  EXPECT_THAT(heads.WhyNot(OutputKind::kTokenLogits), HasSubstr("missing: lm_head.weight"));
  folder_.Add("embed_out.weight", {6, 4});
  heads = Heads(ReadGptNeoX, R"(, "rotary_pct": 1.0)");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.Width(OutputKind::kTokenLogits, 4, 5), 6);
  EXPECT_FALSE(heads.heads[0].vocab_bias);
}

TEST_F(HeadsTest, LogitsOfGemmaAreCapped) {
  const auto read = [&](const char* cap) {
    return Heads(ReadGemma3Text, absl::StrCat(R"(, "architectures": ["Gemma3ForCausalLM"],
        "final_logit_softcapping": )",
                                              cap));
  };
  EXPECT_EQ(read("30.0").heads.at(0).logit_cap, 30.0);
  EXPECT_EQ(read("null").heads.at(0).logit_cap, 0.0);
  EXPECT_THAT(read("0").WhyNot(OutputKind::kTokenLogits), HasSubstr("cap of logits: got 0"));
}

TEST_F(HeadsTest, ColBertIsALinearLayerAndAnArchitecture) {
  folder_.Add("linear.weight", {3, 4});
  const HeadsConfig heads = Heads(ReadBert, R"(, "architectures": ["HF_ColBERT"])");
  ASSERT_EQ(heads.heads.size(), 1u);
  EXPECT_EQ(heads.heads[0].kind, HeadKind::kTokenVectors);
  EXPECT_FALSE(heads.heads[0].steps[0].bias);
  EXPECT_EQ(heads.Width(OutputKind::kTokenVectors, 4, 5), 3);
}

TEST_F(HeadsTest, ACrossEncodersActivationIsWhatItsConfigNames) {
  AddLinear("classifier.dense", 4, 4);
  AddLinear("classifier.out_proj", 4, 1);
  const auto last = [](const HeadsConfig& heads) { return heads.heads[0].steps[1].activation; };
  EXPECT_EQ(last(Heads(ReadRoberta, "")), RowActivation::kIdentity);
  EXPECT_EQ(last(Heads(ReadRoberta, R"(, "sentence_transformers":
      {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5"})")),
            RowActivation::kSigmoid);
  EXPECT_EQ(last(Heads(ReadRoberta, R"(, "sbert_ce_default_activation_function":
      "torch.nn.modules.linear.Identity")")),
            RowActivation::kIdentity);
  const HeadsConfig heads =
      Heads(ReadRoberta, R"(, "sentence_transformers": {"activation_fn": "mine.Softmax"})");
  EXPECT_EQ(heads.Find(OutputKind::kScores), nullptr);
  EXPECT_THAT(heads.WhyNot(OutputKind::kScores), HasSubstr("activation_fn: got \"mine.Softmax\""));
}

TEST_F(HeadsTest, EachTorchActivationHasItsName) {
  EXPECT_EQ(*TorchActivation("torch.nn.modules.activation.Tanh"), RowActivation::kTanh);
  EXPECT_EQ(*TorchActivation("torch.nn.modules.linear.Identity"), RowActivation::kIdentity);
  EXPECT_EQ(*TorchActivation("torch.nn.GELU"), RowActivation::kGeluErf);
  EXPECT_THAT(TorchActivation("torch.nn.modules.activation.Softplus").status(),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("served are torch.nn's Identity, Tanh")));
}

}  // namespace
}  // namespace headlight
