// SPDX-License-Identifier: Apache-2.0
#include "server/models/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace headlight
