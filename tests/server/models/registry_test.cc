// SPDX-License-Identifier: Apache-2.0
#include "server/models/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/server/attend_fixtures.h"
#include "tests/testing/status_matchers.h"

namespace headlight {
namespace {

using testing::IsOk;
using testing::MakeTestModel;
using testing::SmallConfig;
using testing::StatusIs;

void Add(ModelRegistry& registry, const std::string& name, const std::string& version) {
  ASSERT_THAT(registry.Add(MakeTestModel(name, SmallConfig(), version).loaded), IsOk());
}

TEST(RegistryTest, FindsByNameAndVersion) {
  ModelRegistry registry;
  Add(registry, "a", "1");
  Add(registry, "a", "2");
  const auto model = registry.Find("a", "1");
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ((*model)->version, "1");
}

TEST(RegistryTest, WithoutAVersionTheNewestAnswers) {
  ModelRegistry registry;
  Add(registry, "a", "9");
  Add(registry, "a", "10");
  ASSERT_THAT(registry.Find("a", ""), IsOk());
  EXPECT_EQ((*registry.Find("a", ""))->version, "10");
  Add(registry, "a", "final");
  EXPECT_EQ((*registry.Find("a", ""))->version, "final");
}

TEST(RegistryTest, AnUnknownNameGetsTheNamesThatExist) {
  ModelRegistry registry;
  EXPECT_THAT(registry.Find("a", ""),
              StatusIs(absl::StatusCode::kNotFound, "model: no model \"a\"; there is none"));
  Add(registry, "b", "1");
  Add(registry, "c", "1");
  EXPECT_THAT(registry.Find("a\n", ""),
              StatusIs(absl::StatusCode::kNotFound, "model: no model \"a\\n\"; there is b, c"));
}

TEST(RegistryTest, AnUnknownVersionGetsTheVersionsThatExist) {
  ModelRegistry registry;
  Add(registry, "a", "1");
  Add(registry, "a", "2");
  EXPECT_THAT(registry.Find("a", "3"),
              StatusIs(absl::StatusCode::kNotFound,
                       "model_version: model \"a\" has no version \"3\"; there is 1, 2"));
}

TEST(RegistryTest, RefusesASecondModelOfTheSameNameAndVersion) {
  ModelRegistry registry;
  Add(registry, "a", "1");
  EXPECT_THAT(registry.Add(MakeTestModel("a").loaded),
              StatusIs(absl::StatusCode::kAlreadyExists, "model \"a\" version \"1\" is there"));
  EXPECT_EQ(registry.List().size(), 1u);
}

TEST(RegistryTest, ReplaceLeavesOneVersionAndWhoHasTheOldOneKeepsIt) {
  ModelRegistry registry;
  Add(registry, "a", "1");
  Add(registry, "a", "2");
  const auto old = *registry.Find("a", "1");
  registry.Replace(MakeTestModel("a", SmallConfig(), "3").loaded);
  EXPECT_EQ(registry.List().size(), 1u);
  EXPECT_EQ((*registry.Find("a", ""))->version, "3");
  EXPECT_THAT(
      registry.Find("a", "1"),
      StatusIs(absl::StatusCode::kNotFound, "model_version: model \"a\" has no version \"1\"; there is 3"));
  EXPECT_EQ(old->version, "1");
}

TEST(RegistryTest, ARemovedModelIsNotFound) {
  ModelRegistry registry;
  Add(registry, "a", "1");
  Add(registry, "b", "1");
  EXPECT_THAT(registry.Remove("a"), IsOk());
  EXPECT_THAT(registry.Find("a", ""), StatusIs(absl::StatusCode::kNotFound, ::testing::_));
  EXPECT_THAT(registry.Remove("a"),
              StatusIs(absl::StatusCode::kNotFound, "model: no model \"a\"; there is b"));
}

TEST(RegistryTest, AModelThatCouldNotBeLoadedIsUnavailableAndSaysWhy) {
  ModelRegistry registry;
  registry.SetLoadError("a", "version 1: bad");
  EXPECT_THAT(registry.Find("a", ""),
              StatusIs(absl::StatusCode::kUnavailable, "model: \"a\" could not be loaded: version 1: bad"));
  Add(registry, "a", "1");
  EXPECT_THAT(registry.Find("a", ""), IsOk());
  EXPECT_EQ(registry.LoadErrors().at("a"), "version 1: bad");
  registry.SetLoadError("a", "");
  EXPECT_TRUE(registry.LoadErrors().empty());
}

TEST(RegistryTest, RefusesModelsWithoutNameOrVersion) {
  ModelRegistry registry;
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument, "a model needs a name and a version");
  EXPECT_THAT(registry.Add(MakeTestModel("").loaded), refused);
  EXPECT_THAT(registry.Add(MakeTestModel("a", SmallConfig(), "").loaded), refused);
}

TEST(RegistryTest, ListsByNameThenVersionOldestFirst) {
  ModelRegistry registry;
  Add(registry, "b", "10");
  Add(registry, "b", "9");
  Add(registry, "a", "1");
  std::vector<std::string> listed;
  for (const auto& model : registry.List()) listed.push_back(model->name + model->version);
  EXPECT_THAT(listed, ::testing::ElementsAre("a1", "b9", "b10"));
}

TEST(RegistryTest, TheDemoModelIsTheDocumentedOne) {
  const auto demo = MakeBuiltInModel("demo");
  ASSERT_THAT(demo, IsOk());
  EXPECT_EQ((*demo)->name, "demo");
  EXPECT_EQ((*demo)->version, "1");
  const AttentionConfig& config = (*demo)->model.config().block.attention;
  EXPECT_EQ(config.embed_dim, 768);
  EXPECT_EQ(config.num_heads, 12);
  EXPECT_EQ(config.num_kv_heads, 12);
  EXPECT_EQ(config.num_appended_keys(), 0);
  EXPECT_FALSE(config.rope || config.alibi || config.window_left || config.window_right);
  EXPECT_EQ(config.logit_softcap, 0.0);
  EXPECT_EQ((*demo)->model.attention().precision(), Precision::kF32);
  EXPECT_EQ((*demo)->precision_error.max_abs, 0.0);
}

TEST(RegistryTest, TheGqaModelIsTheDocumentedOne) {
  const auto demo = MakeBuiltInModel("demo-gqa");
  ASSERT_THAT(demo, IsOk());
  const AttentionConfig& config = (*demo)->model.config().block.attention;
  EXPECT_EQ(config.embed_dim, 768);
  EXPECT_EQ(config.num_heads, 12);
  EXPECT_EQ(config.num_kv_heads, 4);
  ASSERT_TRUE(config.rope.has_value());
  EXPECT_EQ(config.rope->scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(config.window_left, 255);
  EXPECT_EQ(config.window_right, std::nullopt);
  EXPECT_EQ(config.logit_softcap, 30.0);
}

TEST(RegistryTest, TheAlibiModelIsTheDocumentedOne) {
  const auto demo = MakeBuiltInModel("demo-alibi");
  ASSERT_THAT(demo, IsOk());
  const AttentionConfig& config = (*demo)->model.config().block.attention;
  EXPECT_EQ(config.embed_dim, 768);
  EXPECT_EQ(config.num_heads, 12);
  EXPECT_TRUE(config.alibi);
  EXPECT_EQ(config.num_appended_keys(), 2);
}

TEST(RegistryTest, APrecisionIsServedOrItsAbsenceExplained) {
  for (const Precision precision : {Precision::kBf16, Precision::kInt8}) {
    const auto demo = MakeBuiltInModel("demo", "", precision);
    ASSERT_THAT(demo, IsOk());
    const MultiHeadAttention& attention = (*demo)->model.attention();
    EXPECT_EQ(attention.config().precision, precision);
    EXPECT_EQ(attention.precision() == precision, attention.precision_note().empty());
    EXPECT_EQ(attention.precision() == Precision::kF32, (*demo)->precision_error.rms == 0.0);
    EXPECT_GT((*demo)->precision_error.cosine, 0.99);
  }
}

TEST(RegistryTest, TheModelIsNamedWhereItCannotBeMade) {
  EXPECT_THAT(MakeBuiltInModel("demo", "abacus"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::StartsWith("model demo: kernel: got 'abacus', wanted one of: ")));
}

TEST(RegistryTest, AnUnknownBuiltInModelGetsTheNamesThatExist) {
  EXPECT_THAT(MakeBuiltInModel("demo\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "there is no built-in model \"demo\\n\", wanted one of demo, demo-gqa, demo-alibi"));
}

}  // namespace
}  // namespace headlight
