// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/formats/huggingface.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
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

constexpr int64_t kMaxPositions = 70;

TEST(HuggingFaceRopeTest, IsReadInOldAndNewSpelling) {
  const FormatFolder folder;
  for (const char* config :
       {R"({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}})",
        R"({"rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}})",
        R"({"rope_parameters": {"rope_theta": 500.0, "rope_type": "linear", "factor": 4.0}})"}) {
    ConfigFields fields = HuggingFaceFields(folder, config);
    const RopeConfig rope = ReadHuggingFaceRope(fields, kMaxPositions);
    EXPECT_THAT(fields.status(), IsOk());
    EXPECT_EQ(rope, (RopeConfig{.theta = 500.0, .scaling = RopeConfig::Scaling::kLinear, .factor = 4.0}))
        << config;
  }
}

TEST(HuggingFaceRopeTest, HasTheConstantsOfLlama3) {
  const FormatFolder folder;
  ConfigFields fields = HuggingFaceFields(folder, R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.5, "high_freq_factor": 3.5, "original_max_position_embeddings": 100}})");
  const RopeConfig rope = ReadHuggingFaceRope(fields, kMaxPositions);
  EXPECT_THAT(fields.status(), IsOk());
  EXPECT_EQ(rope, (RopeConfig{.scaling = RopeConfig::Scaling::kLlama3,
                              .factor = 8.0,
                              .low_freq_factor = 1.5,
                              .high_freq_factor = 3.5,
                              .original_max_len = 100}));
}

// As transformers 5 does: the length beside the object, else that in it, else the model's own.
TEST(HuggingFaceRopeTest, Llama3TakesTheLengthOfTrainingWhereItIs) {
  const FormatFolder folder;
  const std::string llama3 =
      R"("rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4)";
  for (const auto& [config, len] :
       {std::pair(absl::StrCat(R"({"rope_parameters": {)", llama3, "}}"), kMaxPositions),
        std::pair(
            absl::StrCat(R"({"original_max_position_embeddings": 30, "rope_parameters": {)", llama3, "}}"),
            int64_t{30}),
        std::pair(absl::StrCat(R"({"original_max_position_embeddings": 30, "rope_parameters": {)", llama3,
                               R"(, "original_max_position_embeddings": 30}})"),
                  int64_t{30})}) {
    ConfigFields fields = HuggingFaceFields(folder, config);
    EXPECT_EQ(ReadHuggingFaceRope(fields, kMaxPositions).original_max_len, len) << config;
    EXPECT_THAT(fields.status(), IsOk());
  }
  ConfigFields both = HuggingFaceFields(
      folder, absl::StrCat(R"({"original_max_position_embeddings": 30, "rope_parameters": {)", llama3,
                           R"(, "original_max_position_embeddings": 40}})"));
  ReadHuggingFaceRope(both, kMaxPositions);
  EXPECT_THAT(both.status(), StatusIs(absl::StatusCode::kInvalidArgument,
                                      HasSubstr("original_max_position_embeddings: got 40, and beside")));
}

TEST(HuggingFaceRopeTest, TheInnerThetaCounts) {
  const FormatFolder folder;
  ConfigFields fields =
      HuggingFaceFields(folder, R"({"rope_theta": 1.0, "rope_parameters": {"rope_theta": 500.0}})");
  EXPECT_EQ(ReadHuggingFaceRope(fields, kMaxPositions).theta, 500.0);
  EXPECT_THAT(fields.status(), IsOk());
}

TEST(HuggingFaceRopeTest, KeysThatContradictEachOtherAreRefused) {
  const FormatFolder folder;
  for (const auto& [config, message] :
       {std::pair(R"({"rope_scaling": {"type": "linear", "rope_type": "llama3", "factor": 2.0}})",
                  "rope_type"),
        std::pair(
            R"({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"factor": 2.0}})",
            "rope_scaling: got an object, and rope_parameters too"),
        std::pair(R"({"rope_parameters": {"full_attention": {"rope_theta": 5.0}}})",
                  "rope_parameters.full_attention")}) {
    ConfigFields fields = HuggingFaceFields(folder, config);
    ReadHuggingFaceRope(fields, kMaxPositions);
    EXPECT_THAT(fields.status().message(), HasSubstr(message));
  }
}

TEST(HuggingFaceRopeTest, NoneIsPlain) {
  const FormatFolder folder;
  ConfigFields fields = HuggingFaceFields(folder, R"({"rope_scaling": null})");
  EXPECT_EQ(ReadHuggingFaceRope(fields, kMaxPositions), RopeConfig());
  EXPECT_THAT(fields.status(), IsOk());
}

TEST(HuggingFaceRopeTest, KindsThatAreNotServedAreNamed) {
  const FormatFolder folder;
  ConfigFields other =
      HuggingFaceFields(folder, R"({"rope_scaling": {"type": "proportional", "factor": 2.0}})");
  ReadHuggingFaceRope(other, kMaxPositions);
  EXPECT_THAT(other.status(),
              StatusIs(absl::StatusCode::kUnimplemented,
                       HasSubstr("rope_scaling.rope_type: got \"proportional\", served are default")));
  ConfigFields partial = HuggingFaceFields(folder, R"({"partial_rotary_factor": 0.5})");
  ReadHuggingFaceRope(partial, kMaxPositions);
  EXPECT_THAT(partial.status(), StatusIs(absl::StatusCode::kUnimplemented,
                                         HasSubstr("partial_rotary_factor: got 0.5, served is 1")));
}

// As transformers 5.24 does: null and 0 ask for what is said here, and for the ratio of lengths.
TEST(HuggingFaceRopeTest, HasTheConstantsOfYarn) {
  const FormatFolder folder;
  const auto read = [&](const std::string& more) {
    ConfigFields fields = HuggingFaceFields(
        folder,
        absl::StrCat(R"({"rope_parameters": {"rope_type": "yarn", "rope_theta": 500.0, )", more, "}}"));
    const RopeConfig rope = ReadHuggingFaceRope(fields, kMaxPositions);
    EXPECT_THAT(fields.status(), IsOk()) << more;
    return rope;
  };
  const RopeConfig plain = {.theta = 500.0,
                            .scaling = RopeConfig::Scaling::kYarn,
                            .factor = 4.0,
                            .original_max_len = kMaxPositions,
                            .magnitude = 0.1 * std::log(4.0) + 1.0};
  EXPECT_EQ(read(R"("factor": 4.0)"), plain);
  EXPECT_EQ(read(R"("factor": 4.0, "beta_fast": 0, "beta_slow": null)"), plain);
  RopeConfig all = plain;
  all.original_max_len = 35;
  all.beta_fast = 16.0;
  all.beta_slow = 2.0;
  all.truncate = false;
  all.magnitude = 1.25;
  EXPECT_EQ(
      read(R"("factor": 4.0, "beta_fast": 16, "beta_slow": 2, "truncate": null, "attention_factor": 1.25,
                    "original_max_position_embeddings": 35, "mscale": 3.0, "mscale_all_dim": 2.0)"),
      all);
  RopeConfig ratio = plain;
  ratio.original_max_len = 35;
  ratio.factor = 2.0;
  ratio.magnitude = (0.3 * std::log(2.0) + 1.0) / (0.2 * std::log(2.0) + 1.0);
  EXPECT_EQ(
      read(R"("factor": null, "original_max_position_embeddings": 35, "mscale": 3.0, "mscale_all_dim": 2.0)"),
      ratio);
  ratio.magnitude = 0.1 * std::log(2.0) + 1.0;
  EXPECT_EQ(read(R"("factor": 2.0, "original_max_position_embeddings": 35, "mscale": 3.0)"), ratio)
      << "one of the two is none";
}

TEST(HuggingFaceRopeTest, HasTheFactorsOfShortSequencesWhereThoseOfLongOnesDiffer) {
  const FormatFolder folder;
  const auto read = [&](const std::string& more) {
    ConfigFields fields = HuggingFaceFields(
        folder,
        absl::StrCat(R"({"original_max_position_embeddings": 35, "rope_scaling": {"type": "longrope", )",
                     more, "}}"));
    const RopeConfig rope = ReadHuggingFaceRope(fields, kMaxPositions);
    EXPECT_THAT(fields.status(), IsOk()) << more;
    return rope;
  };
  RopeConfig wanted = {.scaling = RopeConfig::Scaling::kByPair,
                       .pair_factors = {1.0, 2.5},
                       .magnitude = std::sqrt(1.0 + std::log(2.0) / std::log(35.0)),
                       .max_len = 35};
  EXPECT_EQ(read(R"("short_factor": [1, 2.5], "long_factor": [1, 3])"), wanted);
  wanted.magnitude = std::sqrt(1.0 + std::log(8.0) / std::log(35.0));
  EXPECT_EQ(read(R"("short_factor": [1, 2.5], "long_factor": [1, 3], "factor": 8)"), wanted);
  wanted.magnitude = 1.0;
  EXPECT_EQ(read(R"("short_factor": [1, 2.5], "long_factor": [1, 3], "factor": 0.5)"), wanted);
  wanted.magnitude = 1.5;
  wanted.max_len = 0;
  EXPECT_EQ(read(R"("short_factor": [1, 2.5], "long_factor": [1, 2.5], "attention_factor": 1.5)"), wanted);
  ConfigFields lacking =
      HuggingFaceFields(folder, R"({"rope_scaling": {"type": "longrope", "short_factor": [1]}})");
  ReadHuggingFaceRope(lacking, kMaxPositions);
  EXPECT_THAT(lacking.status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rope_scaling.long_factor: missing")));
}

TEST(HuggingFaceRopeTest, DynamicScalingIsNoneUpToTheLengthOfTraining) {
  const FormatFolder folder;
  ConfigFields fields = HuggingFaceFields(folder, R"({"rope_scaling": {"type": "dynamic", "factor": 2.0}})");
  EXPECT_EQ(ReadHuggingFaceRope(fields, kMaxPositions), (RopeConfig{.max_len = kMaxPositions}));
  EXPECT_THAT(fields.status(), IsOk());
}

TEST(HuggingFaceRopeTest, APartOfEachHeadMayTurnWhereTheFamilySaysSo) {
  const FormatFolder folder;
  const auto read = [&](const std::string& config, absl::Status& status) {
    ConfigFields fields = HuggingFaceFields(folder, config);
    const int64_t dims = ReadHuggingFaceRope(fields, {.max_position_embeddings = kMaxPositions,
                                                      .theta_key = "base",
                                                      .head_dim = 18,
                                                      .part = 0.25,
                                                      .part_key = "part"})
                             .rotary_dim;
    status = fields.status();
    return dims;
  };
  absl::Status status;
  EXPECT_EQ(read("{}", status), 4) << "4.5 are 4";
  EXPECT_THAT(status, IsOk());
  EXPECT_EQ(read(R"({"part": 0.5, "rope_parameters": {"partial_rotary_factor": 0.8}})", status), 14);
  EXPECT_THAT(status, IsOk());
  EXPECT_EQ(read(R"({"part": 1})", status), 0);
  EXPECT_THAT(status, IsOk());
  for (const char* part : {"0", "0.5", "1.5", "-1"}) {
    read(absl::StrCat(R"({"part": )", part, "}"), status);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("part: got"))) << part;
  }
}

TEST(HuggingFaceRopeTest, EachKindOfLayersMayTurnByItself) {
  const FormatFolder folder;
  const auto read = [&](const std::string& config, const char* kind, bool scaled) {
    ConfigFields fields = HuggingFaceFields(folder, config);
    const RopeConfig rope = ReadLayerRope(fields, kind, scaled, {.max_position_embeddings = kMaxPositions});
    EXPECT_THAT(fields.status(), IsOk()) << config;
    return rope;
  };
  const RopeConfig linear = {.theta = 500.0, .scaling = RopeConfig::Scaling::kLinear, .factor = 4.0};
  const char* const kinds = R"({"rope_theta": 7.0, "rope_parameters": {
      "full_attention": {"rope_theta": 500.0, "rope_type": "linear", "factor": 4.0}, "sliding_attention": null}})";
  EXPECT_EQ(read(kinds, kFullAttention, true), linear);
  EXPECT_EQ(read(kinds, kSlidingAttention, false), RopeConfig{.theta = 7.0});
  const char* const before =
      R"({"rope_theta": 500.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}})";
  EXPECT_EQ(read(before, kFullAttention, true), linear);
  EXPECT_EQ(read(before, kSlidingAttention, false), RopeConfig{.theta = 500.0});
  for (const auto& [config, message] :
       {std::pair(R"({"rope_parameters": {"rope_theta": 5.0}})",
                  "rope_parameters.rope_theta: got it beside kinds"),
        std::pair(R"({"rope_parameters": {"full_attention": {"truncate": false}}})", "truncate: got false"),
        std::pair(R"({"rope_scaling": {"full_attention": {}}})",
                  "rope_scaling.full_attention: got an object"),
        std::pair(R"({"rope_scaling": {"type": "linear", "factor": 2.0}})",
                  "rope_scaling.type: got it without")}) {
    ConfigFields fields = HuggingFaceFields(folder, config);
    ReadLayerRope(fields, kFullAttention, true, {.max_position_embeddings = kMaxPositions});
    EXPECT_THAT(fields.status(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(message)));
  }
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
