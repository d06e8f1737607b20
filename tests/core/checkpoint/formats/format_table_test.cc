// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/checkpoint/formats/format.h"
#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::FormatFolder;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

absl::StatusOr<Format> FormatOf(const std::string& config) {
  FormatFolder folder;
  folder.Add("in_proj_weight", {12, 4});
  const absl::StatusOr<Shards> checkpoint = folder.Checkpoint();
  absl::StatusOr<ConfigFields> fields = folder.Fields(config);
  EXPECT_THAT(checkpoint, IsOk());
  EXPECT_THAT(fields, IsOk());
  return ReadFormat(*fields, *checkpoint);
}

TEST(ReadFormatTest, OurOwnAreNamedByTheirLayout) {
  const auto native =
      FormatOf(R"({"format": "headlight", "layout": "native", "embed_dim": 4, "num_heads": 2})");
  ASSERT_THAT(native, IsOk());
  EXPECT_EQ(native->name, "native");
  const auto torch =
      FormatOf(R"({"format": "headlight", "layout": "torch.nn.MultiheadAttention", "num_heads": 2})");
  ASSERT_THAT(torch, IsOk());
  EXPECT_EQ(torch->name, "torch.nn.MultiheadAttention");
}

TEST(ReadFormatTest, HuggingFacesAreNamedByTheirModelType) {
  const std::string bert_keys = R"("hidden_size": 4, "num_attention_heads": 2, "num_hidden_layers": 1,
      "intermediate_size": 6, "vocab_size": 5, "rotary_pct": 1})";
  for (const char* type :
       {"bert",   "camembert",  "roberta",    "xlm-roberta", "llama",    "mistral",   "qwen2",
        "qwen3",  "olmo2",      "phi3",       "gemma3_text", "gpt_neox", "mpnet",     "electra",
        "albert", "modernbert", "nomic_bert", "gte",         "new",      "deberta", "deberta-v2"}) {
    const auto format = FormatOf(std::string(R"({"model_type": ")") + type + "\", " + bert_keys);
    ASSERT_THAT(format, IsOk()) << type;
    EXPECT_EQ(format->name, type);
    EXPECT_EQ(format->config.block.attention.embed_dim, 4);
  }
}

TEST(ReadFormatTest, NamesThatAreNotServedAreToldThoseThatAre) {
  EXPECT_THAT(FormatOf(R"({"format": "headlight", "layout": "keras"})"),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("layout: got \"keras\", served are native, torch.nn.MultiheadAttention")));
  EXPECT_THAT(FormatOf(R"({"model_type": "t5"})"),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("model_type: got \"t5\", served are albert, bert")));
  EXPECT_THAT(
      FormatOf(R"({"format": "onnx"})"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("format: got \"onnx\", wanted \"headlight\"")));
  EXPECT_THAT(FormatOf(R"({"num_heads": 2})"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("neither is there")));
}

TEST(ReadFormatTest, AllProblemsStandInOneMessage) {
  EXPECT_THAT(FormatOf(R"({"model_type": "bert", "num_attention_heads": 0, "vocab_size": "5"})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("num_attention_heads: got 0"), HasSubstr("vocab_size: got \"5\""))));
  EXPECT_THAT(FormatOf(R"({"format": "headlight", "layout": "native", "num_layers": 0})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("embed_dim: missing"), HasSubstr("num_layers: got 0"))));
}

TEST(ReadFormatTest, WhatNobodyKnowsIsReportedAndWhatIsAbsentAssumed) {
  const auto format = FormatOf(R"({"model_type": "bert", "num_hidden_layers": 1, "sliding_window": 3})");
  ASSERT_THAT(format, IsOk());
  EXPECT_THAT(format->not_understood, ElementsAre("sliding_window"));
  EXPECT_THAT(format->assumed, AllOf(Contains("hidden_act \"gelu\""), Contains("layer_norm_eps 1e-12"),
                                     Contains("num_attention_heads 12"), Contains("is_decoder false")));
}

TEST(WantedTensorsTest, ALinearLayerIsStoredOutputsFirst) {
  TensorPlan plan;
  std::vector<float> weight, bias;
  WantLinear("fc", 3, 5, true, weight, bias, plan);
  ASSERT_EQ(plan.wanted.size(), 2u);
  EXPECT_EQ(plan.wanted[0].names, std::vector<std::string>{"fc.weight"});
  EXPECT_EQ(plan.wanted[0].shape, (Shape{5, 3}));
  EXPECT_EQ(plan.wanted[0].orientation, Orientation::kOutIn);
  EXPECT_EQ(plan.wanted[0].parts[0].destination, &weight);
  EXPECT_EQ(plan.wanted[1].shape, (Shape{5}));
  EXPECT_EQ(plan.wanted[1].parts[0].destination, &bias);
  TensorPlan without;
  WantLinear("fc", 3, 5, false, weight, bias, without);
  EXPECT_EQ(without.wanted.size(), 1u);
}

TEST(WantedTensorsTest, ANormHasOldNamesToo) {
  TensorPlan plan;
  NormParameters norm;
  WantNorm("norm", 7, true, norm, plan);
  ASSERT_EQ(plan.wanted.size(), 2u);
  EXPECT_EQ(plan.wanted[0].names, (std::vector<std::string>{"norm.weight", "norm.gamma"}));
  EXPECT_EQ(plan.wanted[1].names, (std::vector<std::string>{"norm.bias", "norm.beta"}));
  TensorPlan without;
  WantNorm("norm", 7, false, norm, without);
  EXPECT_EQ(without.wanted.size(), 1u);
}

}  // namespace
}  // namespace headlight
