// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/huggingface.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "tests/core/checkpoint/formats/format_folder.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using ::testing::ElementsAre;
using testing::FormatFolder;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

ConfigFields HuggingFaceFields(const FormatFolder& folder, const std::string& text) {
  absl::StatusOr<ConfigFields> fields = folder.Fields(text);
  EXPECT_THAT(fields, IsOk());
  return *std::move(fields);
}

TEST(HuggingFaceActivationTest, HasTheNamesOfTransformers) {
  const FormatFolder folder;
  for (const auto& [name, activation] :
       {std::pair("relu", Activation::kRelu), std::pair("gelu", Activation::kGeluErf),
        std::pair("gelu_new", Activation::kGeluTanh), std::pair("gelu_pytorch_tanh", Activation::kGeluTanh),
        std::pair("silu", Activation::kSilu), std::pair("swish", Activation::kSilu)}) {
    ConfigFields fields = HuggingFaceFields(folder, std::string(R"({"act": ")") + name + "\"}");
    EXPECT_EQ(ReadHuggingFaceActivation(fields, "act", "relu"), activation) << name;
    EXPECT_THAT(fields.status(), IsOk());
  }
  ConfigFields none = HuggingFaceFields(folder, "{}");
  EXPECT_EQ(ReadHuggingFaceActivation(none, "act", "silu"), Activation::kSilu);
  ConfigFields other = HuggingFaceFields(folder, R"({"act": "quick_gelu"})");
  ReadHuggingFaceActivation(other, "act", "silu");
  EXPECT_THAT(other.status(), StatusIs(absl::StatusCode::kUnimplemented,
                                       HasSubstr("act: got \"quick_gelu\", served are relu")));
}

TEST(HuggingFaceOptionsTest, ThoseThatChangeWhatIsComputedAreRefused) {
  const FormatFolder folder;
  for (const auto& [config, message] :
       {std::pair(R"({"quantization_config": {"bits": 4}})", "quantization_config"),
        std::pair(R"({"add_cross_attention": true})", "add_cross_attention: got true"),
        std::pair(R"({"pruned_heads": {"0": [1]}})", "pruned_heads"),
        std::pair(R"({"position_embedding_type": "relative_key"})", "position_embedding_type")}) {
    ConfigFields fields = HuggingFaceFields(folder, config);
    RefuseUnservedOptions(fields);
    EXPECT_THAT(fields.status(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(message)));
  }
}

TEST(HuggingFaceOptionsTest, ThoseThatChangeNothingAreTaken) {
  const FormatFolder folder;
  ConfigFields fields = HuggingFaceFields(
      folder, R"({"add_cross_attention": false, "pruned_heads": {}, "position_embedding_type": "absolute"})");
  RefuseUnservedOptions(fields);
  EXPECT_THAT(fields.status(), IsOk());
}

TEST(HuggingFaceRopeTest, IsReadInOldAndNewSpelling) {
  const FormatFolder folder;
  for (const char* config :
       {R"({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}})",
        R"({"rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}})",
        R"({"rope_parameters": {"rope_theta": 500.0, "rope_type": "linear", "factor": 4.0}})"}) {
    ConfigFields fields = HuggingFaceFields(folder, config);
    const RopeConfig rope = ReadHuggingFaceRope(fields);
    EXPECT_THAT(fields.status(), IsOk());
    EXPECT_EQ(rope, (RopeConfig{.theta = 500.0, .scaling = RopeConfig::Scaling::kLinear, .factor = 4.0}))
        << config;
  }
}

TEST(HuggingFaceRopeTest, HasTheConstantsOfLlama3) {
  const FormatFolder folder;
  ConfigFields fields = HuggingFaceFields(folder, R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.5, "high_freq_factor": 3.5, "original_max_position_embeddings": 100}})");
  const RopeConfig rope = ReadHuggingFaceRope(fields);
  EXPECT_THAT(fields.status(), IsOk());
  EXPECT_EQ(rope, (RopeConfig{.scaling = RopeConfig::Scaling::kLlama3,
                              .factor = 8.0,
                              .low_freq_factor = 1.5,
                              .high_freq_factor = 3.5,
                              .original_max_len = 100}));
}

TEST(HuggingFaceRopeTest, NoneIsPlain) {
  const FormatFolder folder;
  ConfigFields fields = HuggingFaceFields(folder, R"({"rope_scaling": null})");
  EXPECT_EQ(ReadHuggingFaceRope(fields), RopeConfig());
  EXPECT_THAT(fields.status(), IsOk());
}

TEST(HuggingFaceRopeTest, KindsThatAreNotServedAreNamed) {
  const FormatFolder folder;
  ConfigFields yarn = HuggingFaceFields(folder, R"({"rope_scaling": {"type": "yarn", "factor": 2.0}})");
  ReadHuggingFaceRope(yarn);
  EXPECT_THAT(yarn.status(), StatusIs(absl::StatusCode::kUnimplemented,
                                      HasSubstr("rope_scaling.rope_type: got \"yarn\", served are default")));
  ConfigFields partial = HuggingFaceFields(folder, R"({"partial_rotary_factor": 0.5})");
  ReadHuggingFaceRope(partial);
  EXPECT_THAT(partial.status(),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("partial_rotary_factor: served is 1")));
}

TEST(FindPrefixTest, IsWhatTheTensorHasOrElseOtherNames) {
  FormatFolder folder;
  folder.Add("bert.words", {1});
  absl::StatusOr<Shards> checkpoint = folder.Checkpoint();
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_EQ(FindPrefix(*checkpoint, "words", {"", "bert."}), "bert.");
  EXPECT_EQ(FindPrefix(*checkpoint, "lacking", {"", "bert."}), "bert.") << "by its other names";
  EXPECT_EQ(FindPrefix(*checkpoint, "words", {"", "model."}), "") << "the first";
  folder.Add("words", {1});
  checkpoint = folder.Checkpoint();
  ASSERT_THAT(checkpoint, IsOk());
  EXPECT_EQ(FindPrefix(*checkpoint, "words", {"", "bert."}), "");
}

TEST(IgnoreHeadsAndBuffersTest, TakesHeadsByNameOrAllOutsideThePrefix) {
  FormatFolder folder;
  folder.Add("bert.pooler.dense.weight", {1});
  folder.Add("bert.embeddings.position_ids", {1});
  folder.Add("anything", {1});
  folder.Add("classifier.weight", {1});
  const absl::StatusOr<Shards> checkpoint = folder.Checkpoint();
  ASSERT_THAT(checkpoint, IsOk());
  TensorPlan prefixed, bare;
  IgnoreHeadsAndBuffers("bert.", prefixed);
  EXPECT_THAT(CheckPlan(prefixed, *checkpoint), IsOk());
  IgnoreHeadsAndBuffers("", bare);
  const absl::Status status = CheckPlan(bare, *checkpoint);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 tensors do not fit")));
  EXPECT_THAT(std::string(status.message()), HasSubstr("surplus: anything"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("surplus: bert.pooler.dense.weight"));
}

}  // namespace
}  // namespace headlight
